"""Readers beside an erasure, and after one that was killed at any write: the old rows or the new, never an error."""

import shutil
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import health_checks
from stores.feast import offline_store
from stores.files.filesystem import Storage
from stores.publishing import erasure, publish
from stores.publishing.suppression_list import suppress
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from tests.stores.conftest import Nights

pytestmark = pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning")
CONFIG = publish.PublishConfig(registry_ttl_s=1)
MEMBERS = 9
GONE = 4


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two published nights, the second carried from the first, with candidates beside the vectors."""
    place = tmp_path_factory.mktemp("erasing") / "workspace"
    nights = Nights(Workspace.open(str(place)), str(place / "feast"))
    lists = pa.table({"member_id": list(range(MEMBERS)), "rank": list(range(MEMBERS))})
    more = {"lists/part-00000.parquet": lists}
    first = nights.seal(dict.fromkeys(range(MEMBERS), 1), {0: 1}, more=more)
    second = nights.seal({**dict.fromkeys(range(MEMBERS), 1), GONE: 2}, {0: 1}, more=more, carried=first)
    for release in (first, second):
        publish.publish(nights.workspace, release, CONFIG)
    second.add_event("readback", wrong=[f"member {GONE}: found nothing"])
    suppress(nights.workspace.storage, 77)  # makes the salt, which is random
    return place


@pytest.fixture
def workspace(two_nights: Path, tmp_path: Path) -> Workspace:
    return copied(two_nights, tmp_path / "workspace")


def copied(place: Path, to: Path) -> Workspace:
    shutil.copytree(place, to)
    return Workspace.open(str(to))


def read_all(release: Release) -> set[int]:
    """Read a release in every way that a consumer does; the ids of its members."""
    assert release.verify() == []
    assert set(release.members().to_table()["member_id"].to_pylist()) <= set(range(MEMBERS))
    for entry in release.manifest.files:
        release.read_table(entry.path)
    return set(release.table("members")["member_id"].to_pylist())


def content(workspace: Workspace) -> dict[str, Any]:
    """All that an erasure leaves, without times and names of its own; databases apart."""
    found: dict[str, Any] = {}
    for release in workspace.releases():
        manifest = release.manifest.model_dump(mode="json", exclude={"digest"})
        events = [{k: v for k, v in event.items() if k not in ("at", "erasure")} for event in release.events()]
        found[release.release_id] = manifest, events, read_all(release)
    paths = [path for path in workspace.storage.files() if path.endswith(".parquet")]
    found["files"] = {path: workspace.storage.read(path) for path in paths}
    own = ("events/", "lease", "online.db")
    found["others"] = [path for path in workspace.storage.files() if not any(name in path for name in own)]
    return found


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """dying(n): after that the process dies right before its n-th change of a file, as far as files are concerned."""
    write, delete, put = Storage.write, Storage.delete, offline_store._publish_file
    left = [1 << 30]

    def count(real: Callable[..., None]) -> Callable[..., None]:
        def changing(*words: Any) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(*words)

        return changing

    for owner, name, real in (
        (Storage, "write", write),
        (Storage, "delete", delete),
        (offline_store, "_publish_file", put),
    ):
        monkeypatch.setattr(owner, name, count(real))

    def arm(number: int) -> None:
        left[0] = number

    return arm


def test_killed_at_any_write_every_release_stays_readable_and_the_next_command_ends_it(
    two_nights: Path, tmp_path: Path, dying: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_erase_online", lambda *_: ["member_embedding"])  # its own tests are elsewhere
    undisturbed = copied(two_nights, tmp_path / "undisturbed")
    erasure.erase(undisturbed, str(GONE), CONFIG, why="a request")
    expected = content(undisturbed)
    for number in range(1, 200):
        workspace = copied(two_nights, tmp_path / "killed")
        held = [Release(workspace.uri, release.release_id) for release in workspace.releases()]
        assert all(read_all(release) for release in held)  # with their manifests in memory from here on
        dying(number)
        try:
            erasure.erase(workspace, str(GONE), CONFIG, why="a request")
        except KeyboardInterrupt:
            dying(1 << 30)
        else:
            break
        for release in [*held, *workspace.releases()]:
            assert read_all(release) >= set(range(MEMBERS)) - {GONE}, number
        assert {one["state"] for one in health_checks.verify_files(workspace) if one["what"].startswith("2026")} == {
            "ok"
        }
        journaled = workspace.storage.exists(erasure.ERASE_JOURNAL)  # before it, only whose the store is was written
        resumed = publish.recover(workspace, CONFIG)
        assert (resumed is not None and resumed.receipt is not None) or not journaled
        if resumed is None:
            erasure.erase(workspace, str(GONE), CONFIG, why="a request")
        found = content(workspace)
        assert [path for path in found["others"] if path not in expected["others"]] == [], number
        assert found == expected, number
        shutil.rmtree(tmp_path / "killed")
    assert number > 20


def test_readers_beside_erasures_never_meet_an_error(workspace: Workspace) -> None:
    """Files with the manifest held in memory and without, the plain data set, and what the doctor says."""
    held, wrong, reads = workspace.current(), [], [0]
    over = threading.Event()

    def read(release: Callable[[], Release]) -> None:
        while not over.is_set():
            try:
                read_all(release())
                reads[0] += 1
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read, args=(one,)) for one in (lambda: held, workspace.current)]
    for reader in readers:
        reader.start()
    for member in range(1, MEMBERS):
        erasure.erase(workspace, str(member), CONFIG)
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert reads[0] > 2
    assert read_all(workspace.current()) == {0}


def test_feast_answers_from_the_history_while_it_is_rewritten(workspace: Workspace) -> None:
    import pandas as pd
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(workspace.storage.local("feast")))
    frame = pd.DataFrame({"member_id": list(range(MEMBERS)), "event_timestamp": [datetime.now(UTC)] * MEMBERS})
    wrong: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                table = store.get_historical_features(frame, ["member_embedding:release_id"]).to_arrow()
                assert table.num_rows == MEMBERS
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=ask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.start()
        for member in range(1, MEMBERS):
            erasure.erase(workspace, str(member), CONFIG)
        over.set()
        reader.join()
    assert wrong == []


def test_an_erasure_whose_journal_was_lost_is_ended_by_the_next_one(workspace: Workspace) -> None:
    """The manifest alone knows then which files are half-way; another member's erasure reads and settles them."""
    storage, write = workspace.storage, Storage.write

    def killed(self: Storage, path: str, data: Any) -> None:
        write(self, path, data)
        if path.startswith("members/"):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase(workspace, str(GONE), CONFIG)
    storage.delete(erasure.ERASE_JOURNAL)
    assert workspace.releases()[0].rewriting()
    erasure.erase(workspace, "5", CONFIG)
    erasure.erase(workspace, str(GONE), CONFIG)
    for release in workspace.releases():
        assert release.rewriting() == []
        assert read_all(release) == set(range(MEMBERS)) - {GONE, 5}
