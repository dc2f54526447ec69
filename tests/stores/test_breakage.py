"""Broken rows: the share that was asked for, every kind, each one findable in the files, the others untouched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stores import schema
from stores.lake.simulation import corruption
from stores.lake.simulation.config import END
from stores.lake.simulation.corruption import CORRUPTION_KINDS, Corrupter
from stores.lake.simulation.simulate import SimulationConfig, simulate

SOUND = SimulationConfig(members=300, titles=150, days=20, clusters=5, sessions_per_day=0.6)
BROKEN = SOUND.model_copy(update={"broken": 0.1})


def test_breaking_keeps_the_share_the_total_and_every_kind(tmp_path: Path) -> None:
    sound = simulate(str(tmp_path / "sound"), SOUND)
    counts = simulate(str(tmp_path / "broken"), BROKEN)
    assert counts["interactions"] == sound["interactions"]
    assert counts["broken"] == int(0.1 * counts["interactions"])
    kinds = pq.read_table(tmp_path / "broken/_truth/broken.parquet").to_pylist()
    assert {row["kind"] for row in kinds if row["rows"]} == set(CORRUPTION_KINDS)
    counted = {row["kind"]: row["rows"] for row in kinds}
    assert counted == broken_as_read(tmp_path / "broken", pa.array(range(1, SOUND.titles + 1)))


def broken_as_read(out: Path, titles: pa.Array) -> dict[str, int]:
    """The broken rows of each kind, counted from the files alone."""
    tables = [pq.ParquetFile(file).read() for file in (out / "interactions").rglob("*.parquet")]
    rows = pa.concat_tables(part for part in tables if part.schema.field(schema.DURATION).type == pa.float64())
    wrong = [part for part in tables if part.schema.field(schema.DURATION).type == pa.string()]
    time = rows[schema.EVENT_TIME]

    def where(mask: pa.ChunkedArray) -> int:
        return int(pc.sum(mask).as_py())

    return {
        "null_member": rows[schema.MEMBER_ID].null_count,
        "null_title": rows[schema.TITLE_ID].null_count,
        "null_time": time.null_count,
        "unknown_action": where(pc.invert(pc.is_in(rows[schema.ACTION], pa.array(schema.ACTIONS)))),
        "future_time": where(pc.greater_equal(time, pa.scalar(END, schema.TIMESTAMP_TYPE))),
        "negative_duration": where(pc.less(rows[schema.DURATION], 0.0)),
        "unknown_title": where(pc.and_not(pc.is_valid(rows[schema.TITLE_ID]), pc.is_in(rows[schema.TITLE_ID], titles))),
        "epoch_time": where(pc.equal(pc.year(time), 1970)),
        "duplicate": rows.num_rows - rows.group_by(rows.column_names).aggregate([]).num_rows,
        "wrong_type": sum(part.num_rows for part in wrong),
    }


def test_rows_of_a_wrong_type_cannot_be_read_in_one_column_each(tmp_path: Path) -> None:
    simulate(str(tmp_path), BROKEN)
    files = [pq.ParquetFile(file).read() for file in (tmp_path / "interactions").rglob("*.parquet")]
    (wrong,) = (rows for rows in files if rows.schema.field(schema.EVENT_TIME).type == pa.string())

    def fails(read: Callable[[str], object], text: str | None) -> bool:
        try:
            return text is not None and read(text) is None
        except ValueError:
            return True

    bad_time = [fails(np.datetime64, text.removesuffix("Z")) for text in wrong[schema.EVENT_TIME].to_pylist()]
    bad_duration = [fails(float, text) for text in wrong[schema.DURATION].to_pylist()]
    assert all(time != duration for time, duration in zip(bad_time, bad_duration, strict=True))


def test_a_breaker_with_no_sound_row_to_copy_breaks_it_in_another_way() -> None:
    row = pa.table({name: pa.array([None], pa.string()) for name in ("member_id", "x")})
    breaker = Corrupter(0.9, seed=0)
    dealt = {CORRUPTION_KINDS[kind] for _ in range(3 * len(CORRUPTION_KINDS)) for kind in breaker._deal(1, sound=0)}
    assert "duplicate" not in dealt
    assert breaker(row).num_rows == 1


def rows_of(count: int) -> pa.Table:
    return pa.table({
        schema.MEMBER_ID: np.arange(count),
        schema.TITLE_ID: np.arange(count),
        schema.EVENT_TIME: pa.array(np.arange(count) + 10**15).cast(schema.TIMESTAMP_TYPE),
        schema.ACTION: ["play"] * count,
        schema.DURATION: np.ones(count),
    })  # fmt: skip


def test_sound_rows_pass_unchanged_and_share_zero_changes_nothing() -> None:
    rows = rows_of(1000)
    assert Corrupter(0.0, seed=0)(rows) is rows
    broken = Corrupter(0.2, seed=0)(rows)
    whole = set(map(str, rows.to_pylist()))
    assert len({str(row) for row in broken.to_pylist()} & whole) == 800


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_share_holds_over_all_rows_however_they_come(size: int) -> None:
    breaker = Corrupter(0.3, seed=0)
    for _ in range(600 // size):
        breaker(rows_of(size))
    assert abs(sum(breaker.counts.values()) - 0.3 * 600) <= 1


def test_wrong_types_that_wait_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "MAX_WRONG_TYPE_ROWS", 20)
    breaker = Corrupter(0.5, seed=0)
    for _ in range(50):
        breaker(rows_of(40))
    waiting = breaker.wrong_type_table()
    assert waiting is not None
    assert 0 < waiting.num_rows == breaker.counts["wrong_type"] <= 20
    assert sum(breaker.counts.values()) == 1000
