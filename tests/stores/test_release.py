"""A release: resume by hash, nothing visible before the manifest, damage named."""

import pickle
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pyarrow as pa
import pytest

from stores.errors import BusyError, CorruptError, NotFoundError, UsageError
from stores.releases import release as release_module
from stores.releases.lease import lease
from stores.releases.release import Plan, Release, StageReport
from stores.releases.workspace import Workspace

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = pa.table({"member_id": [1, 2]})


def plan(release_id: str) -> Plan:
    return Plan(
        release_id=release_id,
        plan_hash="abcd",
        lake="lake",
        as_of=NOW,
        created_at=NOW,
        model_id="m",
        space_id="1",
        reference_release=None,
        previous_release=None,
        shards=1,
        config={},
    )


def stage(workspace: Workspace, token: int) -> Release:
    return workspace.stage(plan(workspace.new_release_id("abcd", NOW)), token)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(str(tmp_path / "ws"))


@pytest.fixture
def staged(workspace: Workspace) -> Release:
    with lease(workspace.storage, "test"):
        return Release(workspace.uri, stage(workspace, 1).release_id)


def test_a_staged_release_does_not_exist_for_readers(workspace: Workspace, staged: Release) -> None:
    assert workspace.releases() == []
    assert [release.release_id for release in workspace.staged()] == [staged.release_id]
    with pytest.raises(NotFoundError, match=staged.release_id):
        workspace.release(staged.release_id)


def test_a_finished_file_is_known_and_a_damaged_one_is_not(staged: Release) -> None:
    entry = staged.write_table("members/part-00000.parquet", TABLE)
    assert staged.completed_file(entry.path) == entry
    damaged = bytearray(staged.storage.read(entry.path))
    damaged[len(damaged) // 2] ^= 1
    staged.storage.write(entry.path, bytes(damaged))
    assert staged.completed_file(entry.path) is None


def test_an_entry_without_its_file_is_not_finished(staged: Release) -> None:
    entry = staged.write_table("members/part-00000.parquet", TABLE)
    staged.storage.delete(entry.path)
    assert staged.completed_file(entry.path) is None


def test_seal_lists_data_files_but_not_work(workspace: Workspace, staged: Release) -> None:
    staged.write_table("work/native/members/part-00000.parquet", TABLE)
    kept = staged.write_table("members/part-00000.parquet", TABLE)
    report = staged.run_stage("encode", lambda: StageReport(name="encode", rows=2))
    manifest = staged.seal([], [report], {})
    assert manifest.files == [kept]
    assert manifest.status == "ready"
    again = workspace.release(staged.release_id)
    assert again.manifest == manifest
    assert again.stage_report("encode") == report
    assert again.verify() == []
    assert not staged.storage.exists("work")


def test_verify_names_the_damaged_file(workspace: Workspace, staged: Release) -> None:
    staged.write_bytes("index/a.bin", b"abc")
    staged.seal([], [], {})
    staged.storage.write("index/a.bin", b"abd")
    assert "index/a.bin" in workspace.release(staged.release_id).verify()[0]


def test_an_unreadable_manifest_is_corrupt(workspace: Workspace, staged: Release) -> None:
    staged.storage.write("manifest.json", b'{"format_version": 99}')
    with pytest.raises(CorruptError, match="99"):
        _ = workspace.release(staged.release_id).manifest
    staged.storage.write("manifest.json", b"[]")
    with pytest.raises(CorruptError, match=staged.release_id):
        _ = workspace.release(staged.release_id).manifest


def test_a_stage_runs_once(staged: Release) -> None:
    staged.run_stage("encode", lambda: StageReport(name="encode", rows=1))
    assert staged.run_stage("encode", lambda: pytest.fail("ran twice")).rows == 1


@pytest.mark.parametrize("name", ["../x", "20260101T000000Z-zzzz", "", "a/b", "20260101T000000Z-abcd\0"])
def test_a_release_id_never_becomes_a_path_unchecked(name: str) -> None:
    with pytest.raises(UsageError):
        Release("ws", name)


def test_ids_increase_when_the_clock_is_moved_back(workspace: Workspace) -> None:
    with lease(workspace.storage, "test") as token:
        first = stage(workspace, token).release_id
        second = workspace.new_release_id("0000", datetime(2020, 1, 1, tzinfo=UTC))
    assert second > first


def test_a_night_that_was_taken_over_cannot_write(workspace: Workspace) -> None:
    with lease(workspace.storage, "old") as old:
        late = stage(workspace, old)
    with lease(workspace.storage, "new"), pytest.raises(BusyError, match="taken over"):
        late.write_bytes("x", b"")


def test_a_release_travels_between_processes_and_folders(staged: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(staged.workspace_uri)
    monkeypatch.chdir(here.parent)
    packed = pickle.dumps(Release(here.name, staged.release_id))
    monkeypatch.chdir("/")
    assert pickle.loads(packed).plan == staged.plan  # noqa: S301 - our own bytes


def test_events_are_kept_in_order(staged: Release) -> None:
    staged.add_event("published", rows=1)
    staged.add_event("promoted", why="because")
    assert [event["event"] for event in staged.events()] == ["published", "promoted"]


def test_events_keep_their_order_when_the_clock_is_moved_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = stage(workspace, 0)
    for number in range(3):
        monkeypatch.setattr(release_module, "datetime", clock_at(datetime(2027 - number, 1, 1, tzinfo=UTC)))
        staged.add_event("published", number=number)
    assert [event["number"] for event in staged.events()] == [0, 1, 2]


def clock_at(moment: datetime) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return moment

    return Clock


def test_a_folder_that_only_looks_like_a_release_gives_no_time(workspace: Workspace) -> None:
    workspace.storage.write("releases/99999999T999999Z-ffff/x", b"")
    assert workspace.new_release_id("abcd", NOW) == f"{NOW:%Y%m%dT%H%M%SZ}-abcd"
