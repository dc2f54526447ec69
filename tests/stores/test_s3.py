"""A server that is ill: whatever it answers is an outage with a name and an end, and never says anything of a file."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.snapshot import SnapshotTime, open_snapshot
from stores.errors import CorruptError, StoreError
from stores.files import object_store
from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from tests.stores.sick_s3 import KINDS, Illness, sick_proxy

ROWS = 20_000


@pytest.fixture(scope="module")
def sick(s3_bucket: str) -> Iterator[tuple[Storage, Illness]]:
    """A place on an object store that can fall ill, with short limits."""
    with pytest.MonkeyPatch.context() as patch, sick_proxy(os.environ["AWS_ENDPOINT_URL"]) as (url, illness):
        patch.setenv("AWS_ENDPOINT_URL", url)
        for limit, value in (("CONNECT_S", 5), ("ANSWER_S", 3), ("ATTEMPTS", 2)):
            patch.setattr(object_store, limit, value)
        storage = Storage(f"{s3_bucket}/sick")
        storage.write("text", b"y" * 100_000)
        storage.write("table/a.parquet", parquet_bytes(pa.table({"a": list(range(ROWS))})))
        yield storage, illness


OPERATIONS: dict[str, Callable[[Storage], Any]] = {
    "read": lambda storage: len(storage.read("text")),
    "read_table": lambda storage: storage.read_table("table/a.parquet").num_rows,
    "dataset": lambda storage: storage.dataset("table").count_rows(),
    "files": lambda storage: storage.files("table"),
    "write": lambda storage: storage.write("other", b"1"),
    "replace": lambda storage: replace_if(storage, "text", b"1", b"2"),
}


CASES = [(kind, name) for kind in KINDS for name in OPERATIONS if kind != "hang" or name in ("read", "write")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_an_outage_is_a_store_error_with_a_cure(sick: tuple[Storage, Illness], kind: str, name: str) -> None:
    """Not a damaged file, which would be given up, and not a trace; each of them works again afterwards."""
    storage, illness = sick
    before = OPERATIONS[name](storage)
    illness.begin(kind)
    try:
        if kind == "cut" and name == "write":  # the reply to a PUT has no body
            OPERATIONS[name](storage)
        else:
            with pytest.raises(StoreError) as error:
                OPERATIONS[name](storage)
            assert "s3://test/sick" in error.value.where
            assert error.value.fix
            assert 1 <= len(illness.seen) <= 6
    finally:
        illness.heal()
    assert OPERATIONS[name](storage) == before


def test_one_wrong_answer_is_asked_again(sick: tuple[Storage, Illness]) -> None:
    storage, illness = sick
    for kind in ("500", "503", "drop"):
        for name in ("read", "read_table", "write", "files"):
            illness.begin(kind, times=1)
            OPERATIONS[name](storage)
            illness.heal()


def test_a_missing_file_and_damaged_bytes_are_still_damage(sick: tuple[Storage, Illness]) -> None:
    storage, _ = sick
    storage.write("table2/a.parquet", b"no parquet at all, but long enough")
    with pytest.raises(CorruptError, match="missing"):
        storage.read("nowhere")
    with pytest.raises(CorruptError, match=r"table2/a\.parquet"):
        storage.read_table("table2/a.parquet")


@pytest.mark.parametrize("kind", ["503", "cut"])
def test_an_outage_while_a_lake_is_read_costs_no_row(sick: tuple[Storage, Illness], kind: str, tmp_path: Path) -> None:
    """A file that the server does not give out is not an unreadable one, whose rows would be refused."""
    storage, illness = sick
    local, uri = tmp_path / "lake", f"{storage.uri}/lake"
    simulate(str(local), SimulationConfig(members=30, titles=20, days=4, seed=1))
    here, there = Storage(str(local)), Storage(uri)
    for path in here.files():
        there.write(path, here.read(path))
    opened = Lake.open(uri)
    assert not opened.interactions.broken
    illness.begin(kind, only=r"GET .*lake/interactions/.*parquet")
    with pytest.raises(StoreError, match="object store did not serve"):
        Lake.open(uri)
    illness.heal()
    moment, config = SnapshotTime(datetime.now(UTC), datetime.now(UTC)), HistoriesConfig()
    illness.begin(kind, only="GET .*parquet")
    with pytest.raises(StoreError) as error, open_snapshot(opened, moment, config) as snapshot:
        snapshot.connection.execute("SELECT 1")
    illness.heal()
    assert "free disk space" not in error.value.fix
