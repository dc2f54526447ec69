"""A cell that DuckDB stops at costs its row or only itself, a file that nothing can read its rows, never the night."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig, active_members, plan_shards, read_histories, tokenise
from embeddings.histories.propensity import with_propensity
from embeddings.histories.snapshot import Snapshot, SnapshotTime, with_snapshot
from stores.errors import ContractError, StoreError
from stores.lake.contract import Lake
from stores.lake.scan import ScanConfig
from stores.lake.tables import TABLES, Kind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = HistoriesConfig(max_bad_fraction=1.0, scan=ScanConfig(threads=1))
ROWS = 20
SECOND = 1_700_000_000
MICROS = pa.array([SECOND * 10**6 + row for row in range(ROWS)], pa.int64())


def texts(bad: int = 5, good: str = "play", coded: bool = False) -> pa.Array:
    """Texts with one byte that is not UTF-8 in one row; `coded` as a dictionary."""
    cells = pa.array([b"pl\xe9y" if row == bad else good.encode() for row in range(ROWS)], pa.binary())
    if not coded:
        return pa.Array.from_buffers(pa.string(), ROWS, cells.buffers())
    codes = cells.dictionary_encode()
    words = pa.Array.from_buffers(pa.string(), len(codes.dictionary), codes.dictionary.buffers())
    return pa.DictionaryArray.from_arrays(codes.indices, words)


def tables() -> dict[str, dict[str, pa.Array]]:
    ids = pa.array(range(1, ROWS + 1))
    when = MICROS.cast(pa.timestamp("us", "UTC"))
    play = pa.array(["play"] * ROWS)
    return {
        "interactions": {"member_id": ids, "title_id": ids, "event_time": when, "action": play},
        "titles": {"title_id": ids},
        "impressions": {"member_id": ids, "title_id": ids, "shown_at": when},
    }


def write(folder: Path, **replaced: dict[str, pa.Array]) -> Lake:
    """A lake of two files in each table: a sound one and one whose columns are replaced."""
    for name, sound in tables().items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(sound).slice(0, 0 if name == "titles" else ROWS), folder / name / "a.parquet")
        pq.write_table(pa.table({**sound, **replaced.get(name, {})}), folder / name / "b.parquet")
    return Lake.open(str(folder))


Judged = tuple[dict[str, dict[str, int]], list[dict[str, Any]], list[dict[str, Any]]]


def look(lake: Lake) -> Judged:
    """The same, after every other reader of a lake has read it."""
    histories, _ = read_histories(lake, NOW, CONFIG)
    with_propensity(histories, lake, NOW, CONFIG.scan)
    assert active_members(lake, CONFIG, None, NOW) == plan_shards(lake, HistoriesConfig(members_per_shard=1)) == ROWS
    return judged(lake)


def judged(lake: Lake) -> Judged:
    """Refused rows by table, their letters, and the cells taken as missing."""

    def work(snapshot: Snapshot) -> Judged:
        letters = [snapshot.rejected_rows(table) for table in (snapshot.titles, snapshot.interactions)]
        snapshot.shard_members(1)
        snapshot.events(1000).read_all()
        snapshot.catalogue()
        return snapshot.refused, pa.concat_tables(letters).to_pylist(), snapshot.lost_cells()

    return with_snapshot(lake, SnapshotTime(NOW, NOW), CONFIG, None, work)


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "dictionary"])
def test_a_byte_that_is_not_utf8_costs_its_row_or_its_cell(tmp_path: Path, coded: bool) -> None:
    replaced: dict[str, dict[str, pa.Array]] = {}
    for table in ("interactions", "titles", "impressions"):
        for row, column in enumerate(column for column in TABLES[table] if column.kind in (Kind.TEXT, Kind.TEXTS)):
            cells = texts(row, coded=coded and column.kind is Kind.TEXT)
            listed = pa.ListArray.from_arrays(range(ROWS + 1), cells) if column.kind is Kind.TEXTS else cells
            replaced.setdefault(table, {})[column.name] = listed
    lake = write(tmp_path, **replaced)
    refused, letters, missing = look(lake)
    assert refused == {"titles": {}, "interactions": {"wrong type": 1}}
    (letter,) = letters
    assert [letter[name] for name in ("source", "row", "column", "value")] == [
        "interactions/b.parquet", 0, "action", r"pl\xE9y",
    ]  # fmt: skip
    seen = {(one["table"], one["column"]): (one["cells"], one["first"]) for one in missing}
    assert seen == {
        (table, column): (1, f"{table}/b.parquet row {row}")
        for table in ("interactions", "titles")
        for row, column in enumerate(replaced[table])
        if column != "action"
    }
    _, catalogue = read_histories(lake, NOW, CONFIG)
    assert catalogue["name"].is_valid().to_pylist() == [row != 0 for row in range(ROWS)]
    row = list(replaced["titles"]).index("genres")
    assert catalogue["genres"].to_pylist()[row : row + 2] == [[None], ["play"]]


def test_a_byte_in_an_id_costs_its_row(tmp_path: Path) -> None:
    lake = write(tmp_path, interactions={"member_id": texts(good="7")})
    refused, letters, _ = judged(lake)
    assert refused["interactions"] == {"wrong type": 1}
    assert [(one["row"], one["column"], one["value"]) for one in letters] == [(5, "member_id", r"pl\xE9y")]


def times(kind: pa.DataType, impossible: list[int]) -> pa.Array:
    """Impossible counts of a type in the first rows, good ones in the others."""
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    good = SECOND // 86_400 if kind == pa.date32() else SECOND * unit[kind.unit]
    counts = [*impossible, *(good + (0 if kind == pa.date32() else row) for row in range(ROWS))][:ROWS]
    return pa.array(counts, pa.int32() if kind == pa.date32() else pa.int64()).view(kind)


END, DAYS = 2**63 - 1, 2**31 - 1
IMPOSSIBLE = [
    (pa.timestamp("us", "UTC"), [-END - 1, -END, END, END - 1, 253402214400000000, -62135596800000000]),
    (pa.timestamp("us"), [-END - 1, END, -11644473600000000]),
    (pa.timestamp("ms"), [-END - 1, END, 2**60, 253402214400000, -62135596800000]),
    (pa.timestamp("ms", "UTC"), [-END - 1, END]),
    (pa.timestamp("ns"), [-END - 1, END]),
    (pa.timestamp("ns", "UTC"), [-END - 1, -END]),
    (pa.date32(), [DAYS, -DAYS - 1, 2932896, -719162, -134774]),
]


@pytest.mark.parametrize(("kind", "counts"), IMPOSSIBLE, ids=str)
def test_an_impossible_time_costs_its_row_and_an_impossible_launch_is_unknown(
    tmp_path: Path, kind: pa.DataType, counts: list[int]
) -> None:
    cells = times(kind, counts)
    lake = write(
        tmp_path,
        interactions={"event_time": cells},
        titles={"launch_time": cells},
        impressions={"shown_at": cells},
    )
    refused, letters, _ = look(lake)
    assert not any(refused["titles"].values())
    assert sum(refused["interactions"].values()) == len(counts)
    places = [(one["source"], one["row"], one["column"]) for one in letters]
    assert places == [("interactions/b.parquet", row, "event_time") for row in range(len(counts))]
    _, catalogue = read_histories(lake, NOW, CONFIG)
    assert catalogue["launch_time"].is_valid().to_pylist() == [row >= len(counts) for row in range(ROWS)]


def test_tables_in_memory_are_read_alike() -> None:
    events = {**tables()["interactions"], "device": texts(), "event_time": times(pa.timestamp("ms"), [END])}
    histories = tokenise(pa.table(events), config=CONFIG)
    assert [row[0] for row in histories["device"].to_pylist()] == ["play"] * 4 + [None] + ["play"] * (ROWS - 6)
    lasted = tokenise(pa.table({**tables()["interactions"], "duration_s": pa.array([60] * ROWS, pa.duration("s"))}))
    assert {row[0] for row in lasted["duration_s"].to_pylist()} == {60.0}


def test_pages_that_nothing_can_read_cost_their_file(tmp_path: Path) -> None:
    write(tmp_path, interactions={"device": pa.array([f"device {row}" for row in range(ROWS)])})
    place = tmp_path / "interactions" / "b.parquet"
    footer = pq.ParquetFile(place).metadata.row_group(0).column(4)
    content = bytearray(place.read_bytes())
    content[footer.dictionary_page_offset : footer.dictionary_page_offset + footer.total_compressed_size] = (
        b"\xff" * footer.total_compressed_size
    )
    place.write_bytes(content)
    histories, _ = read_histories(Lake.open(str(tmp_path)), NOW, CONFIG)
    assert histories.num_rows == ROWS
    assert histories["events"].to_pylist() == [[1]] * ROWS


def test_too_little_memory_names_the_setting(tmp_path: Path) -> None:
    lake = write(tmp_path)
    with pytest.raises(StoreError, match="Out of Memory") as caught:
        read_histories(lake, NOW, HistoriesConfig(scan=ScanConfig(threads=1, memory_limit="1KB")))
    assert "histories.scan.memory_limit" in caught.value.fix
    assert "SELECT" not in str(caught.value)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "rewritten": lambda file: pq.write_table(pq.read_table(file).slice(1), file),
    "cut short": lambda file: os.truncate(file, file.stat().st_size // 2),
    "gone": lambda file: file.unlink(),
    "touched": lambda file: os.utime(file, ns=(1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["interactions", "titles"])
def test_lake_that_changes_while_it_is_read_is_refused_by_the_files_name(
    change: str, table: str, tmp_path: Path
) -> None:
    """Rows of two versions of a file are never mixed, and what is cut short costs no row in silence."""
    lake = write(tmp_path)

    def work(snapshot: Snapshot) -> list[Any]:
        CHANGES[change](tmp_path / table / "b.parquet")
        return list(snapshot.rejected_rows(snapshot.interactions).to_pylist())

    with pytest.raises(ContractError, match=f"1 of 2 files of {table}/ changed.*{table}/b.parquet") as refused:
        with_snapshot(lake, SnapshotTime(NOW, NOW), CONFIG, None, work)
    assert refused.value.exit_code == 3


def test_files_added_while_a_lake_is_read_are_left_for_the_next_night(tmp_path: Path) -> None:
    lake = write(tmp_path)

    def work(snapshot: Snapshot) -> int:
        pq.write_table(pa.table(tables()["interactions"]), tmp_path / "interactions" / "c.parquet")
        return snapshot.interactions.rows

    assert with_snapshot(lake, SnapshotTime(NOW, NOW), CONFIG, None, work) == lake.interactions.rows
