"""Rows of the table of faults (`docs/faults.md`) that no folder's own tests show."""

import resource
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embeddings.histories.job import HistoriesConfig, tokenise
from pipeline.cli import main
from stores.errors import StoreError
from stores.files.filesystem import Storage
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.lease import lease
from stores.releases.workspace import Workspace

MORNING = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("verb", ["nightly", "gc", "promote current", "rollback", "erase 1"])
def test_while_a_night_runs_every_other_command_that_writes_exits_5(verb: str, tmp_path: Path) -> None:
    lake, uri = str(tmp_path / "lake"), str(tmp_path / "ws")
    simulate(lake, SimulationConfig(members=9, titles=9, days=2))
    workspace = Workspace.open(uri)
    pointer = b'{"release_id": "20260101T000000Z-0000", "space_id": "1", "promoted_at": "2026-01-01T00:00:00Z"}'
    workspace.storage.write("current.json", pointer)
    with lease(workspace.storage, "a night"):
        assert main([*verb.split(), "--workspace", uri, *(["--lake", lake] if verb == "nightly" else [])]) == 5
    assert workspace.storage.read("current.json") == pointer
    assert workspace.storage.folders("releases") == []


@pytest.fixture
def no_room() -> Iterator[Callable[[int], None]]:
    """Let files grow to so many bytes; the kernel refuses more, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_what_was_there(no_room: Callable[[int], None], tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("current.json", b"before")
    no_room(1000)
    with pytest.raises(StoreError, match=r"cannot write current\.json") as caught:
        storage.write("current.json", b"x" * 5000)
    assert "free space" in caught.value.fix
    assert storage.read("current.json") == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["current.json"]


def test_a_member_with_a_million_events_goes_through() -> None:
    count, config = 1_000_000, HistoriesConfig()
    seconds = np.arange(count) * 30
    when = pa.array(np.datetime64(MORNING.replace(tzinfo=None) - timedelta(days=400), "us") + seconds.astype("m8[s]"))
    one = pa.table(
        {
            "member_id": pa.array(np.r_[np.zeros(count, np.int64), [1]]),
            "title_id": pa.array(np.r_[np.arange(count) % 1000, [5]]),
            "event_time": pa.concat_arrays([when, when[:1]]).cast(pa.timestamp("us", "UTC")),
            "action": pa.array(["play"]).take(pa.array(np.zeros(count + 1, np.int32))),
        }
    )
    histories = tokenise(one, config=config)
    assert [len(titles) for titles in histories["title_id"].to_pylist()] == [config.max_tokens, 1]
