"""The pool of actors and the tasks on Ray: what is done once, what dies, what never comes, and what an event costs."""

import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from ray import exceptions

from stores import ray_pool
from stores.errors import ClusterError, ConfigError, EncoderError
from stores.ray_pool import MAX_DEATHS, MAX_IN_FLIGHT_PER_ACTOR, ElasticActorPool, WorkerSpec, map_tasks


class Reference:
    def __init__(self, value: Any) -> None:
        self.done: Future[Any] = Future()
        if isinstance(value, Exception):
            self.done.set_exception(value)
        elif value is not Cluster.NEVER:
            self.done.set_result(value)

    def future(self) -> Future[Any]:
        return self.done


class Method:
    def __init__(self, call: Any) -> None:
        self.remote = lambda *words: Reference(call(*words))


class Actor:
    """Answers at once; counts how often it is compared."""

    compared = 0

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.__ray_ready__ = Method(lambda: cluster.placed)
        self.ready = Method(lambda: cluster.loaded)
        self.work = Method(lambda task, *words: cluster.work(self, task))
        self.judge = Method(lambda word: f"{word} judged")

    def __eq__(self, other: object) -> bool:
        Actor.compared += 1
        return self is other

    __hash__ = object.__hash__


class Cluster:
    """Makes actors, as many as it has room for, and is the capacity that the pool asks."""

    NEVER = object()

    def __init__(self, actors: int = 2, wait_s: float = 0.0, **behaviour: Any) -> None:
        self.actors, self.wait_s, self.made = actors, wait_s, 0
        self.placed, self.loaded = behaviour.get("placed"), behaviour.get("loaded")
        self.done: list[Any] = []
        self.kills = behaviour.get("kills", {})

    def make(self) -> Actor:
        self.made += 1
        return Actor(self)

    def work(self, actor: Actor, task: Any) -> Any:
        if self.kills.get(task, 0) > 0:
            self.kills[task] -= 1
            return exceptions.ActorDiedError()
        self.done.append(task)
        return task

    def max_actors(self, resources: Any) -> int:
        return self.actors

    def num_actors(self, resources: Any, needed: int) -> int:
        return self.actors

    def require(self, resources: Any, who: str, setting: str) -> None:
        if not self.actors and not self.wait_s:
            raise ConfigError(f"no room for {who}", where=setting)

    def give_up(self, resources: Any, waited_s: float, who: str, setting: str) -> None:
        if not self.actors and waited_s > self.wait_s:
            raise ClusterError(f"no node came for {who}")

    def pool(self, **words: Any) -> ElasticActorPool:
        return ElasticActorPool(WorkerSpec(self.make, "work", **words), self)  # type: ignore[arg-type]


def test_every_task_is_done_once_by_no_more_actors_than_there_are_tasks() -> None:
    for tasks, actors in [(0, 3), (1, 3), (3, 3), (50, 3), (50, 80)]:
        cluster = Cluster(actors)
        with cluster.pool() as pool:
            assert sorted(pool.run(list(range(tasks)))) == sorted(cluster.done) == list(range(tasks))
        assert cluster.made == min(tasks, actors)


def test_equal_tasks_are_tasks_of_their_own() -> None:
    with Cluster().pool() as pool:
        assert list(pool.run(["same"] * 5)) == ["same"] * 5


def test_an_actor_that_dies_costs_no_task_and_doubles_none() -> None:
    cluster = Cluster(3, kills={4: 1, 7: MAX_DEATHS - 1})
    with cluster.pool() as pool:
        assert sorted(pool.run(list(range(20)))) == list(range(20))
    assert pool.lost == MAX_DEATHS == cluster.made - 3


@pytest.mark.parametrize("deadly", [0, 1, 10, 19])
def test_the_task_that_kills_is_named_and_none_of_those_beside_it(deadly: int) -> None:
    cluster = Cluster(2, kills={deadly: 10**6})
    with pytest.raises(EncoderError, match="keep dying") as caught, cluster.pool(error=EncoderError) as pool:
        list(pool.run(list(range(20))))
    assert caught.value.where == str(deadly)
    assert pool.lost == MAX_DEATHS


def test_actors_that_die_before_they_work_end_the_pool() -> None:
    cluster = Cluster(placed=exceptions.ActorDiedError())
    with pytest.raises(ClusterError, match="keep dying"), cluster.pool() as pool:
        list(pool.run([1, 2, 3]))
    assert cluster.made <= MAX_DEATHS + 2


def test_an_actor_killed_for_its_memory_is_replaced_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    work, left = cluster.work, [1]
    monkeypatch.setattr(
        cluster,
        "work",
        lambda *words: exceptions.OutOfMemoryError("node short") if left and left.pop() else work(*words),
    )
    with cluster.pool() as pool:
        assert sorted(pool.run([1, 2, 3])) == [1, 2, 3]
    assert pool.lost == 1


def test_a_question_is_answered_before_and_between_the_tasks() -> None:
    cluster = Cluster()
    with cluster.pool(load="ready") as pool:
        pool.submit("judge", "sample", tasks=4)
        assert cluster.made == 2
        pool.submit("judge", "sample", tasks=4)
        assert pool.answer() == "sample judged"
        assert sorted(pool.run([1, 2, 3, 4])) == [1, 2, 3, 4]
        pool.submit("judge", "again", tasks=4)
        assert pool.answer() == "again judged"
    assert cluster.made == 2


def test_a_cluster_that_can_never_hold_an_actor_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="no room"):
        Cluster(0).pool(setting="encode.gpus_per_worker = 1").start(3)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"placed": Cluster.NEVER, "loaded": Cluster.NEVER}, "no node came"),
        ({"loaded": Cluster.NEVER}, "ready 20 s after it had started"),
    ],
)
def test_what_never_starts_ends_with_an_error(
    behaviour: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10**6, 7))
    monkeypatch.setattr(ray_pool.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(ray_pool, "_TICK_S", 0.001)
    cluster = Cluster(0 if "placed" in behaviour else 2, wait_s=300.0, **behaviour)
    spec: dict[str, Any] = {"load": "ready", "load_timeout_s": 20.0, "most": 2}
    with pytest.raises(ClusterError, match=says), cluster.pool(**spec) as pool:
        list(pool.run([1, 2]))
    waits = [line for line in capsys.readouterr().err.splitlines() if "waits for a node" in line]
    assert bool(waits) == ("placed" in behaviour)


def test_actors_are_added_where_the_cluster_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)
    monkeypatch.setattr(ray_pool, "_REFRESH_S", 0.0)
    with cluster.pool() as pool:
        results = pool.run(list(range(30)))
        next(results)
        cluster.actors = 4
        assert len(list(results)) == 29
    assert cluster.made == 4


# --- what an event costs


def operations(actors: int, tasks: int) -> float:
    """Lines of the pool's module that run, and actors that are compared, for each task."""
    lines, cluster = 0, Cluster(actors)

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count if frame.f_code.co_filename == ray_pool.__file__ else None

    Actor.compared = 0
    with cluster.pool(load="ready") as pool:
        before = sys.gettrace()
        sys.settrace(count)
        try:
            done = len(list(pool.run(list(range(tasks)))))
        finally:
            sys.settrace(before)
    assert done == tasks
    return (lines + Actor.compared) / tasks


def test_a_result_costs_the_same_whatever_the_number_of_actors() -> None:
    few, many = (operations(actors, 6 * actors) for actors in (10, 400))
    assert many < 1.5 * few


# --- on Ray


PATHS = [str(number) for number in range(6)]
SQUARES = [number**2 for number in range(6)]


def squared(folder: Path, path: str, deadly: dict[str, int]) -> int:
    """Kills its worker on some paths, so many times."""
    marks = list(folder.glob(f"{path}-*"))
    if len(marks) < deadly.get(path, 0):
        (folder / f"{path}-{len(marks)}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(path) ** 2


def refused(folder: Path, path: str) -> int:
    raise ConfigError("not this one", where=path)


def test_tasks_give_results_in_the_order_of_their_paths_also_where_workers_die(
    tmp_path: Path, ray_session: None
) -> None:
    assert map_tasks(squared, tmp_path, PATHS, {"0": 1, "4": 1}) == SQUARES
    assert len(list(tmp_path.iterdir())) == 2
    assert map_tasks(squared, tmp_path, [], {}) == []


def test_a_task_that_keeps_killing_is_named_and_what_a_task_raises_is_raised(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "MAX_DEATHS", 2)
    with pytest.raises(ClusterError, match="keep dying") as caught:
        map_tasks(squared, tmp_path, PATHS, {"3": 9})
    assert caught.value.where == "3"
    assert len(list(tmp_path.glob("3-*"))) == 2
    with pytest.raises(ConfigError, match="not this one"):
        map_tasks(refused, tmp_path, PATHS)


class Squares:
    """An actor whose process is killed by some paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def work(self, path: str, deadly: dict[str, int]) -> int:
        return squared(self.folder, path, deadly)


def test_a_pool_on_ray_replaces_actors_that_are_killed(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray_pool, "MAX_DEATHS", 2)
    actor = ray.remote(Squares).options(num_cpus=1, max_concurrency=MAX_IN_FLIGHT_PER_ACTOR)
    spec = WorkerSpec(lambda: actor.remote(tmp_path), "work")
    with ElasticActorPool(spec) as pool:
        assert sorted(pool.run(PATHS, {"1": 1})) == SQUARES
        assert pool.lost == 1
        with pytest.raises(ClusterError, match="keep dying") as caught:
            list(pool.run(PATHS, {"4": 9}))
    assert caught.value.where == "4"
