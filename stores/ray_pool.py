"""Elastic fan-out over a Ray cluster whose workers and nodes come, go and die: a pool of actors, and plain tasks.

An actor is given a second shard while it works on the first. Where one dies another takes its place, wherever the
cluster has room, and its shards are given out again, each alone on its actor, so that the one that kills is known by
name. A shard is written whole or not at all: one that was finished and is given out again comes to the same bytes.

What an event costs does not depend on the number of actors: Ray hands each result to a queue by a callback, every
actor counts what it holds, and those with room wait in a queue of their own.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from stores.errors import ClusterError, SamespaceError
from stores.ray_capacity import ONE_CPU, Capacity

MAX_IN_FLIGHT_PER_ACTOR = 2
"""Shards that an actor holds: the one it computes and the one it reads or writes."""
MAX_DEATHS = 4
"""A shard that is there when so many actors die is what kills them; so many that die without one cannot start."""
_REFRESH_S = 5.0
"""Seconds between two questions to the cluster: how many actors have room now."""
_TICK_S = 1.0
"""Seconds that one wait for an event takes at most."""
_NOTICE_S = 60.0
"""Seconds between two notices that nothing can start yet."""


@dataclass(frozen=True)
class WorkerSpec:
    """The actors of a pool: how one is made, which method works off a task, and what one needs."""

    make: Callable[[], Any]
    method: str
    name: str = "worker"
    resources: Mapping[str, float] = field(default_factory=lambda: ONE_CPU)
    """Of one actor, by Ray's names, as it is made with."""
    setting: str = ""
    """The setting that asks for these resources, to be named where no node has them."""
    most: int | None = None
    """Actors at most; None: as many as the cluster has room for."""
    ahead: int = MAX_IN_FLIGHT_PER_ACTOR
    label: Callable[[Any], str] = str
    """What a task is called in an error."""
    load: str = ""
    """A method that is awaited before the first task."""
    load_timeout_s: float = 3600.0
    error: type[SamespaceError] = ClusterError
    """Raised where actors keep dying or cannot load."""
    advice: str = "look at the memory of the nodes"


class _Worker:
    """One actor, and how many tasks it holds."""

    def __init__(self, actor: Any, now: float) -> None:
        self.actor, self.since = actor, now
        self.held: set[int] = set()
        self.placed = self.up = self.gone = self.alone = False


@dataclass(frozen=True)
class _Call:
    """What a future is the answer to: that an actor is placed, has loaded, answers a question, or did a task."""

    worker: _Worker
    kind: str
    index: int = -1


class ElasticActorPool:
    """Actors as `spec` says, as many as there is room and work for, that work off tasks.

    `lost` counts the actors that died. Use it as a context manager, or call `stop`.
    """

    def __init__(self, spec: WorkerSpec, capacity: Capacity | None = None) -> None:
        self.spec, self.capacity = spec, capacity or Capacity()
        self.lost = self._idle_deaths = self._up = self._left = 0
        self._workers: dict[_Worker, None] = {}
        self._idle: dict[_Worker, None] = {}
        self._events: SimpleQueue[Future[Any]] = SimpleQueue()
        self._pending: dict[Future[Any], _Call] = {}
        self._tasks: Sequence[Any] = ()
        self._arguments: tuple[Any, ...] = ()
        self._deaths: list[int] = []
        self._waiting: deque[int] = deque()
        self._suspects: deque[int] = deque()
        self._question: tuple[str, tuple[Any, ...]] | None = None
        self._asked: _Call | None = None
        self._refreshed = self._noticed = self._began = time.monotonic()

    def __enter__(self) -> "ElasticActorPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def limit(self) -> int:
        """How many actors the cluster has room for at the time, at least one, or `spec.most`."""
        return self.spec.most or max(1, self.capacity.max_actors(self.spec.resources))

    def start(self, tasks: int) -> None:
        """Start the actors that so many tasks need, and do not wait for them.

        Raises ConfigError where no node of a cluster that does not grow has the resources of one.
        """
        self._left, self._refreshed = tasks, time.monotonic()
        if not self._up:
            self.capacity.require(self.spec.resources, self.spec.name, self.spec.setting)
        most = self.spec.most or max(1, self.capacity.num_actors(self.spec.resources, -(-tasks // self.spec.ahead)))
        for _ in range(min(most, tasks) - len(self._workers)):
            self._add()

    def submit(self, method: str, *arguments: Any, tasks: int) -> None:
        """Start the actors that so many tasks need and put one question to the first that is up; `answer` waits."""
        if self._question is None:
            self._question = (method, arguments)
        self.start(tasks)
        self._call_ready_actor()

    def answer(self) -> Any:
        """The answer to what `submit` asked; an actor that dies over it is replaced, and another one asked."""
        while self._question is not None:
            answered, result = self._step()
            if answered is not None and answered.kind == "question":
                self._question = self._asked = None
                return result
        raise LookupError("no question was put")

    def run(self, tasks: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        """The results of `method(task, *arguments)` as they come.

        Raises what a task raises, `spec.error` naming the task where one keeps killing its actors, and as `start`.
        """
        self._tasks, self._arguments = tasks, arguments
        self._deaths, self._waiting = [0] * len(tasks), deque(range(len(tasks)))
        done = 0
        self.start(len(tasks))
        self._offer()
        while done < len(tasks):
            call, result = self._step()
            if call is not None and call.kind == "task":
                done += 1
                self._left = len(tasks) - done
                yield result

    def stop(self) -> None:
        """End every actor."""
        for worker in self._workers:
            _kill(worker.actor)
        self._workers.clear()
        self._idle.clear()
        self._pending.clear()
        self._up = 0

    def _add(self) -> None:
        worker = _Worker(self.spec.make(), time.monotonic())
        self._workers[worker] = None
        self._watch(_Call(worker, "placed"), worker.actor.__ray_ready__.remote())
        if self.spec.load:
            self._watch(_Call(worker, "loaded"), getattr(worker.actor, self.spec.load).remote())

    def _watch(self, call: _Call, reference: Any) -> None:
        future = reference.future()
        self._pending[future] = call
        future.add_done_callback(self._events.put)

    def _step(self) -> tuple[_Call | None, Any]:
        """One event: a task that is done or a question that is answered, with its result; else (None, None)."""
        from ray import exceptions

        if time.monotonic() - self._refreshed > _REFRESH_S:
            self.start(self._left)
        try:
            future = self._events.get(timeout=_TICK_S)
        except Empty:
            self._poll_starting_actors()
            return None, None
        call = self._pending.pop(future, None)
        if call is None or call.worker.gone:
            return None, None
        try:
            result = future.result()
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except _lost_worker() as error:
            self._replace_dead_actor(call.worker, error)
            return None, None
        except exceptions.RayError as error:
            raise self._fault(f"the {self.spec.name}s cannot work: {_first_line(error)}", "") from error
        return self._take(call, result)

    def _take(self, call: _Call, result: Any) -> tuple[_Call | None, Any]:
        worker = call.worker
        if call.kind == "placed":
            worker.placed, worker.since = True, time.monotonic()
        if call.kind in ("loaded", "placed"):
            if call.kind == "loaded" or not self.spec.load:
                worker.up = True
                self._up += 1
                self._call(worker)
                self._fill(worker)
            return None, None
        self._idle_deaths = 0
        if call.kind == "task":
            worker.held.discard(call.index)
            worker.alone = False
            self._fill(worker)
        return call, result

    def _call_ready_actor(self) -> None:
        if self._up and self._asked is None:
            self._call(next(worker for worker in self._workers if worker.up))

    def _call(self, worker: _Worker) -> None:
        if self._question is not None and self._asked is None:
            method, arguments = self._question
            self._asked = _Call(worker, "question")
            self._watch(self._asked, getattr(worker.actor, method).remote(*arguments))

    def _fill(self, worker: _Worker) -> None:
        """Give an actor that is up tasks, as far as it has room; one that holds none waits among the idle."""
        if self._suspects and not worker.held:
            worker.alone = True
            self._dispatch(worker, self._suspects.popleft())
        elif not worker.alone:
            # Towards the end one each, so that none waits behind another; and so where suspects wait for a free actor.
            spread = len(self._waiting) > len(self._workers) and not self._suspects
            room = self.spec.ahead if spread else 1
            while self._waiting and len(worker.held) < room:
                self._dispatch(worker, self._waiting.popleft())
        if not worker.held:
            self._idle[worker] = None

    def _dispatch(self, worker: _Worker, index: int) -> None:
        worker.held.add(index)
        method = getattr(worker.actor, self.spec.method)
        self._watch(_Call(worker, "task", index), method.remote(self._tasks[index], *self._arguments))

    def _offer(self) -> None:
        """Hand tasks that wait to actors that hold none."""
        while self._idle and (self._waiting or self._suspects):
            worker, _ = self._idle.popitem()
            self._fill(worker)

    def _replace_dead_actor(self, worker: _Worker, error: Exception) -> None:
        """Forget a dead actor, give its tasks back, start another. Raises `spec.error` where deaths do not end."""
        worker.gone = True
        self.lost += 1
        self._up -= worker.up
        del self._workers[worker]
        self._idle.pop(worker, None)
        _kill(worker.actor)  # one that only cannot be reached would keep its processors
        asked = self._asked is not None and self._asked.worker is worker
        self._idle_deaths += not worker.held
        for index in sorted(worker.held):
            self._deaths[index] += 1
            self._suspects.append(index)
            if self._deaths[index] >= MAX_DEATHS:
                raise self._fault(_dying(f"{self.spec.name}s", error), self.spec.label(self._tasks[index])) from error
        if self._idle_deaths >= MAX_DEATHS:
            raise self._fault(_dying(f"{self.spec.name}s", error), "") from error
        self._add()
        if asked:
            self._asked = None
            self._call_ready_actor()
        self._offer()

    def _poll_starting_actors(self) -> None:
        """Where no actor is up: raise where none will be, say from time to time what is waited for."""
        if self._up or not self._workers:
            return
        now, name = time.monotonic(), self.spec.name
        placed = [worker for worker in self._workers if worker.placed]
        if not placed:
            self.capacity.give_up(self.spec.resources, now - self._began, name, self.spec.setting)
        elif all(now - worker.since > self.spec.load_timeout_s for worker in placed):
            raise self._fault(f"no {name} was ready {self.spec.load_timeout_s:.0f} s after it had started", "")
        if now - self._noticed > _NOTICE_S:
            self._noticed = now
            sys.stderr.write(f"  {name}: {'loads' if placed else 'waits for a node'}, {now - self._began:.0f} s\n")
            sys.stderr.flush()

    def _fault(self, what: str, where: str) -> SamespaceError:
        return self.spec.error(what, where=where, fix=self.spec.advice)


def map_tasks(function: Callable[..., Any], shared: Any, paths: Sequence[str], *arguments: Any) -> list[Any]:
    """`function(shared, path, *arguments)` for each path as a Ray task of one processor; results in their order.

    A task whose worker or node dies is started again. Raises what a task raises, ClusterError naming the path where
    its workers keep dying, ConfigError where no node has a processor.
    """
    import ray

    Capacity().require(ONE_CPU, f"a task of {function.__name__}")
    task = ray.remote(function).options(num_cpus=1, max_retries=0)
    tasks = _Tasks(function.__name__, paths, lambda path: task.remote(shared, path, *arguments))
    try:
        return tasks.results()
    finally:
        tasks.cancel()


class _Tasks:
    """Tasks that were started, one for each path."""

    def __init__(self, name: str, paths: Sequence[str], start: Callable[[str], Any]) -> None:
        self.name, self.paths, self.start = name, paths, start
        self.deaths = [0] * len(paths)
        self.events: SimpleQueue[Future[Any]] = SimpleQueue()
        self.pending: dict[Future[Any], tuple[int, Any]] = {}
        for index in range(len(paths)):
            self.submit(index)

    def submit(self, index: int) -> None:
        """Start a task."""
        reference = self.start(self.paths[index])
        future = reference.future()
        self.pending[future] = index, reference
        future.add_done_callback(self.events.put)

    def results(self) -> list[Any]:
        """What all of them return, in the order of the paths."""
        found: list[Any] = [None] * len(self.paths)
        began, done, capacity = time.monotonic(), 0, Capacity()
        while self.pending:
            try:
                future = self.events.get(timeout=_NOTICE_S)
            except Empty:
                if not done:
                    capacity.give_up(ONE_CPU, time.monotonic() - began, f"task of {self.name}")
                continue
            index, _ = self.pending.pop(future)
            try:
                found[index] = future.result()
                done += 1
            except Exception as error:
                self.resubmit(index, error)
        return found

    def resubmit(self, index: int, error: Exception) -> None:
        """Start a task again whose worker is gone; raise what another error says."""
        from ray import exceptions

        if isinstance(error, exceptions.RayTaskError):
            raise error.cause from None
        lost = isinstance(error, _lost_worker())
        self.deaths[index] += lost
        if not lost or self.deaths[index] >= MAX_DEATHS:
            what = _dying(f"workers of {self.name}", error) if lost else f"{self.name} failed: {_first_line(error)}"
            raise ClusterError(what, where=self.paths[index], fix="look at the memory of the nodes") from error
        self.submit(index)

    def cancel(self) -> None:
        """End what still runs or waits."""
        import ray

        for _, reference in self.pending.values() if ray.is_initialized() else ():
            with suppress(Exception):  # the cluster may be gone
                ray.cancel(reference, force=True)
        self.pending.clear()


def _kill(actor: Any) -> None:
    """End an actor, if it is there. Without the question Ray's functions would start a cluster where none is left."""
    import ray

    if ray.is_initialized():
        with suppress(Exception):  # dead already, or the cluster is gone
            ray.kill(actor)


def _lost_worker() -> tuple[type[Exception], ...]:
    """What Ray raises where the process or the node that worked is gone."""
    from ray import exceptions

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
    )


def _dying(names: str, error: Exception) -> str:
    return f"the {names} keep dying: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
