"""One owner for the rows of an online store: SQLite, Redis, Redis Cluster, and any store through Feast's interface."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.errors import ConfigError, StoreError
from stores.feast import owner_marks, ownership
from stores.feast.ownership import read_identity, require_ownership, take_over_ownership
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.publishing import publish
from stores.publishing.erasure import erase
from stores.releases.workspace import Workspace
from tests.stores.conftest import Nights
from tests.stores.redis_servers import Server, cluster, cluster_config

EVERYONE = list(range(40))
Config = PublishConfig


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server and a cluster, whose rows are dropped before each test."""
    place = tmp_path_factory.mktemp("servers")
    alone = Server(place)
    with cluster(place, 3) as nodes:
        yield {"redis": alone, "cluster": nodes}
    alone.stop()


FEW = pytest.mark.parametrize("shared", ["sqlite", "redis"], indirect=True)


@pytest.fixture(params=["sqlite", "redis", "cluster", "feast"])
def shared(request: pytest.FixtureRequest, servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """An online store that two workspaces can reach."""
    file = {"type": "sqlite", "path": str(tmp_path / "shared.db")}
    if request.param == "feast":
        from stores.feast import online_store

        monkeypatch.setattr(online_store, "_writer", online_store.FeastWriter)
        monkeypatch.setattr(ownership, "mark_store", owner_marks.FeastMarks)
        monkeypatch.setattr(owner_marks, "SETTLE_S", 0.05)
    if request.param in ("sqlite", "feast"):
        return PublishConfig(online_store=file, registry_ttl_s=1)
    for server in [servers["redis"], *servers["cluster"]]:
        server.ask("FLUSHALL")
    return servers["redis"].config() if request.param == "redis" else cluster_config(servers["cluster"])


@pytest.fixture
def workspace(tmp_path: Path) -> Callable[[str], Nights]:
    """A workspace of a name, with releases to make."""

    def make(name: str) -> Nights:
        place = tmp_path / name
        return Nights(Workspace.open(str(place)), str(place / "feast"))

    return make


def test_second_workspace_is_refused_before_its_first_write(shared: Config, workspace: Any, look: Any) -> None:
    """Every verb that writes, by the ids of both; nothing of the first workspace and no file of the second changes."""
    first, second = workspace("first"), workspace("second")
    ours = first.seal(dict.fromkeys(range(20), 1), {0: 1})
    theirs = [second.seal(dict.fromkeys(range(20), seed), {0: seed}) for seed in (5, 6)]
    publish.publish(first.workspace, ours, shared)
    publish.publish(second.workspace, theirs[0], PublishConfig(registry_ttl_s=1))  # into a store of its own
    before = files(second)
    ids = [read_identity(one.workspace.storage).workspace_id for one in (first, second)]
    verbs: list[Callable[[], Any]] = [
        lambda: publish.publish(second.workspace, theirs[1], shared),
        lambda: publish.promote(second.workspace, theirs[1].release_id, shared),
        lambda: publish.promote(second.workspace, "current", shared),
        lambda: erase(second.workspace, "3", shared),
        lambda: require_ownership(FeatureRepository(second.workspace.storage, shared)),
    ]
    for verb in verbs:
        with pytest.raises(ConfigError, match=ids[0]) as refused:
            verb()
        assert ids[1] in str(refused.value)
        assert "--take-over" in refused.value.fix
    assert without_identity(files(second)) == without_identity(before)
    assert second.workspace.pointer()["release_id"] == theirs[0].release_id
    assert look.same_bits(look.online(first, "member", EVERYONE), look.published(ours, "members"))
    again = first.seal(dict.fromkeys(range(20), 2), {0: 2})
    publish.publish(first.workspace, again, shared)
    publish.rollback(first.workspace, shared)
    assert look.same_bits(look.online(first, "member", EVERYONE), look.published(ours, "members"))


def test_take_over_leaves_no_row_of_the_other_workspace(shared: Config, workspace: Any, look: Any) -> None:
    first, second = workspace("first"), workspace("second")
    ours = first.seal(dict.fromkeys(range(30), 1), {0: 1, 7: 1})
    theirs = second.seal(dict.fromkeys(range(10), 5), {0: 5})
    publish.publish(first.workspace, ours, shared)
    take_over_ownership(FeatureRepository(second.workspace.storage, shared), ["1"])
    publish.promote(second.workspace, theirs.release_id, shared)
    for entity in ("member", "title"):
        served = look.online(second, entity, EVERYONE)
        assert look.same_bits(served, look.published(theirs, f"{entity}s")), entity
    with pytest.raises(ConfigError, match="belongs to workspace"):
        publish.promote(first.workspace, "current", shared)


def test_a_killed_take_over_is_completed_by_the_next_command(
    shared: Config, workspace: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workspace("first"), workspace("second")
    publish.publish(first.workspace, first.seal(dict.fromkeys(range(30), 1), {0: 1}), shared)
    theirs = second.seal(dict.fromkeys(range(10), 5), {0: 5})
    with monkeypatch.context() as patch:
        patch.setattr(ownership, "_clear", killed)
        with pytest.raises(KeyboardInterrupt):
            take_over_ownership(FeatureRepository(second.workspace.storage, shared), ["1"])
    publish.publish(second.workspace, theirs, shared)
    assert look.same_bits(look.online(second, "member", EVERYONE), look.published(theirs, "members"))


def test_of_two_first_claims_at_once_one_wins(shared: Config, workspace: Any, look: Any) -> None:
    made = [workspace(f"workspace-{number}") for number in range(3)]
    releases = [one.seal(dict.fromkeys(range(9), seed + 1), {0: seed + 1}) for seed, one in enumerate(made)]
    for one in made:  # Feast is loaded and its folders are there, so that the claims meet
        FeatureRepository(one.workspace.storage, shared).store_config()
    start, outcomes = threading.Barrier(len(made)), {}

    def run(number: int) -> None:
        start.wait()
        try:
            ownership.claim_ownership(FeatureRepository(made[number].workspace.storage, shared), ["1"])
            outcomes[number] = "won"
        except ConfigError as error:
            outcomes[number] = error.what

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(made))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    winners = [number for number, outcome in outcomes.items() if outcome == "won"]
    assert len(winners) == 1, outcomes
    winner = winners[0]
    publish.publish(made[winner].workspace, releases[winner], shared)
    served = look.online(made[winner], "member", EVERYONE)
    assert look.same_bits(served, look.published(releases[winner], "members"))


@FEW
def test_moved_workspace_keeps_its_store_and_a_copy_is_refused(shared: Config, workspace: Any, look: Any) -> None:
    original = workspace("original")
    release = original.seal(dict.fromkeys(range(9), 1), {0: 1})
    expected = look.published(release, "members")
    publish.publish(original.workspace, release, shared)
    moved = workspace("moved")
    shutil.move(original.workspace.uri, moved.workspace.uri)
    publish.promote(moved.workspace, "current", shared)
    copied = workspace("copied")
    shutil.copytree(moved.workspace.uri, copied.workspace.uri)
    with pytest.raises(ConfigError, match="of which this is a copy") as refused:
        publish.promote(copied.workspace, "current", shared)
    assert moved.workspace.uri in str(refused.value)
    publish.promote(moved.workspace, "current", shared)
    take_over_ownership(FeatureRepository(copied.workspace.storage, shared), ["1"])
    publish.promote(copied.workspace, "current", shared)
    assert look.same_bits(look.online(copied, "member", EVERYONE), expected)
    with pytest.raises(ConfigError, match="written by a copy"):
        publish.promote(moved.workspace, "current", shared)


def test_copy_with_a_store_of_its_own_goes_on_alone(workspace: Any, look: Any) -> None:
    """The default store is a file inside the workspace: a copy has its own, and no path is noted."""
    config, original, copied = PublishConfig(registry_ttl_s=1), workspace("original"), workspace("copied")
    publish.publish(original.workspace, original.seal(dict.fromkeys(range(9), 1), {0: 1}), config)
    shutil.copytree(original.workspace.uri, copied.workspace.uri)
    copied.made, copied.changed = list(original.made), dict(original.changed)
    for made, seed in ((copied, 2), (original, 3), (copied, 4)):
        release = made.seal(dict.fromkeys(range(9), seed), {0: seed})
        publish.publish(made.workspace, release, config)
        assert look.same_bits(look.online(made, "member", EVERYONE), look.published(release, "members"))
    assert original.workspace.uri.encode() not in original.workspace.storage.read(ownership.IDENTITY_FILE)


@FEW
def test_copy_on_another_machine_is_found_by_what_it_wrote(shared: Config, workspace: Any) -> None:
    """Nothing shows that it is a copy until both write: then the one that does not know of the last writing stops."""
    original, elsewhere = workspace("original"), workspace("elsewhere")
    publish.publish(original.workspace, original.seal(dict.fromkeys(range(9), 1), {0: 1}), shared)
    shutil.copytree(original.workspace.uri, elsewhere.workspace.uri)
    hidden = original.workspace.uri + "-unreachable"
    shutil.move(original.workspace.uri, hidden)
    publish.promote(elsewhere.workspace, "current", shared)
    shutil.rmtree(elsewhere.workspace.uri)
    shutil.move(hidden, original.workspace.uri)
    with pytest.raises(ConfigError, match="written by a copy"):
        publish.promote(original.workspace, "current", shared)


def test_emptied_store_is_claimed_again_and_written_in_full(shared: Config, workspace: Any, look: Any) -> None:
    """A night that changes one member finds that the rows of all are lost, and writes all of them."""
    made = workspace("one")
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(20), 1), {0: 1}), shared)
    lose(shared)
    release = made.seal({**dict.fromkeys(range(20), 1), 3: 2}, {0: 1})
    publish.publish(made.workspace, release, shared)
    assert look.same_bits(look.online(made, "member", EVERYONE), look.published(release, "members"))
    with pytest.raises(ConfigError):
        ownership.claim_ownership(FeatureRepository(workspace("other").workspace.storage, shared), ["1"])


def test_store_from_an_older_backup_is_written_in_full(workspace: Any, look: Any, tmp_path: Path) -> None:
    file = tmp_path / "shared.db"
    config = PublishConfig(online_store={"type": "sqlite", "path": str(file)}, registry_ttl_s=1)
    made = workspace("one")
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(20), 1), {0: 1}), config)
    shutil.copy(file, tmp_path / "backup.db")
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(20), 2), {0: 2}), config)
    shutil.copy(tmp_path / "backup.db", file)
    release = made.seal({**dict.fromkeys(range(20), 2), 3: 3}, {0: 2})
    publish.publish(made.workspace, release, config)
    assert look.same_bits(look.online(made, "member", EVERYONE), look.published(release, "members"))


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", range(3))
def test_claim_killed_anywhere_is_repeated(
    shared: Config, workspace: Any, look: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Between any two of its writes, a first claim and a later one: the same command again does all of it."""
    made = workspace("one")
    for seed in (1, 2):
        release = made.seal(dict.fromkeys(range(9), seed), {0: seed})
        with monkeypatch.context() as patch:
            stop_at_write(patch, step)
            with pytest.raises(KeyboardInterrupt):
                publish.publish(made.workspace, release, shared)
        publish.publish(made.workspace, release, shared)
        assert look.same_bits(look.online(made, "member", EVERYONE), look.published(release, "members"))


def test_a_store_that_cannot_keep_marks_is_refused(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workspace("one")
    release = made.seal({0: 1}, {0: 1})

    def fails(*_: Any) -> None:
        raise RuntimeError("no such table on the server")

    monkeypatch.setattr(owner_marks.SqliteMarks, "put", fails)
    with pytest.raises(StoreError, match="no such table"):
        publish.publish(made.workspace, release, PublishConfig(registry_ttl_s=1))
    assert made.workspace.pointer() is None


def files(made: Nights) -> dict[str, bytes]:
    root = Path(made.workspace.uri)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def without_identity(found: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in found.items() if path != ownership.IDENTITY_FILE}


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


def stop_at_write(patch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupt the command at a write of a claim: one of the workspace's file, or one of the store's marks."""
    real_note, real_ask, writes = ownership._Owner._note, ownership._Owner._ask, []

    def count() -> None:
        writes.append(1)
        if len(writes) == step + 2:
            raise KeyboardInterrupt

    def note(self: Any, **facts: Any) -> None:
        count()
        real_note(self, **facts)

    def ask(self: Any, question: Any) -> Any:
        count()
        return real_ask(self, question)

    patch.setattr(ownership._Owner, "_note", note)
    patch.setattr(ownership._Owner, "_ask", ask)


def lose(shared: Config) -> None:
    """Drop everything that an online store holds."""
    if shared.online_store["type"] == "sqlite":
        Path(shared.online_store["path"]).unlink()
        return
    from redis import Redis

    for part in shared.online_store["connection_string"].split(","):
        if part.startswith("127.0.0.1:"):
            with Redis(port=int(part.partition(":")[2]), password="secret") as client:
                client.flushall()
