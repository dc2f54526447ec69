"""Every refused row is named by file and row with the first reason that holds; the rest goes through."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.quarantine import AFTER_AS_OF, FUTURE, bad_fraction, check_budget
from embeddings.histories.snapshot import Snapshot, SnapshotTime, open_snapshot
from stores.errors import ContractError
from stores.lake.contract import Lake
from stores.lake.scan import ScanConfig
from stores.releases.dead_letter import count_rows_by_reason, rejected_row

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 10, tzinfo=UTC)
GOOD = {"member_id": 1, "title_id": 7, "event_time": AS_OF - timedelta(days=1), "action": "play", "duration_s": 60.0}
SCHEMA = pa.schema(
    [
        ("member_id", pa.int64()),
        ("title_id", pa.int64()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("action", pa.string()),
        ("duration_s", pa.float64()),
    ]
)
FAULTS = [
    ({"member_id": None}, "member_id is null", None),
    ({"title_id": None}, "title_id is null", None),
    ({"event_time": None}, "event_time is null", None),
    ({"action": None}, "action is null", None),
    ({"action": "juggle"}, "unknown action", "juggle"),
    ({"event_time": NOW + timedelta(seconds=1)}, FUTURE, "2024-06-10 00:00:01"),
    ({"event_time": datetime(1970, 1, 1, tzinfo=UTC)}, "event before 1990", "1970-01-01 00:00:00"),
    ({"duration_s": -1.5}, "negative duration", "-1.5"),
    ({"title_id": 99}, "unknown title", "99"),
]


def write(lake: Path, rows: list[dict[str, Any]], titles: Any = (7, 8), file: str = "a") -> Path:
    for name, table in (
        ("interactions", pa.Table.from_pylist(rows, schema=SCHEMA)),
        ("titles", titles if isinstance(titles, pa.Table) else pa.table({"title_id": list(titles)})),
    ):
        (lake / name).mkdir(exist_ok=True, parents=True)
        pq.write_table(table, lake / name / f"{file if name == 'interactions' else 't'}.parquet")
    return lake


def judge(lake: Path, table: str = "interactions", **config: Any) -> tuple[list[dict[str, Any]], dict[str, int], Any]:
    settings = HistoriesConfig(scan=ScanConfig(threads=1), **config)
    with open_snapshot(Lake.open(str(lake)), SnapshotTime(AS_OF, NOW), settings) as snapshot:
        letters = snapshot.rejected_rows(getattr(snapshot, table))
        return letters.to_pylist(), snapshot.refused[table], accepted(snapshot)


def accepted(snapshot: Snapshot) -> list[int]:
    snapshot.shard_members(1)
    return sorted(snapshot.events(1000).read_all()["pos"].to_pylist())


@pytest.mark.parametrize(("fault", "reason", "value"), FAULTS, ids=lambda one: str(one)[:40])
def test_each_fault_is_named_by_file_and_row(tmp_path: Path, fault: Any, reason: str, value: str | None) -> None:
    write(tmp_path, [GOOD, {**GOOD, **fault}, {**GOOD, "title_id": 8}])
    letters, counts, kept = judge(tmp_path)
    (column,) = fault
    source = "interactions/a.parquet"
    assert letters == [{"source": source, "row": 1, "column": column, "value": value, "reason": reason}]
    assert counts == {reason: 1}
    assert kept == [0, 2]


def test_all_faults_at_once_leave_the_good_rows(tmp_path: Path) -> None:
    write(tmp_path, [row for fault, _, _ in FAULTS for row in ({**GOOD, **fault}, GOOD)])
    letters, counts, kept = judge(tmp_path)
    assert [one["row"] for one in letters] == list(range(0, 2 * len(FAULTS), 2))
    assert kept == list(range(1, 2 * len(FAULTS), 2))
    assert sum(counts.values()) == len(FAULTS)


def test_later_than_the_snapshot_is_counted_but_no_fault(tmp_path: Path) -> None:
    rows = [{**GOOD, "event_time": AS_OF + timedelta(days=days), "member_id": None} for days in (1, 2, 8)]
    write(tmp_path, [{**GOOD, "event_time": AS_OF}, *rows])
    letters, counts, kept = judge(tmp_path)
    assert counts == {AFTER_AS_OF: 3}
    assert [(one["row"], one["reason"], one["value"].split()[0]) for one in letters] == [(-1, AFTER_AS_OF, "3")]
    assert bad_fraction(counts, 4) == 0
    assert kept == [0]


def test_earliest_is_configurable(tmp_path: Path) -> None:
    write(tmp_path, [GOOD])
    _, counts, _ = judge(tmp_path, earliest=AS_OF)
    assert counts == {"event before 1990": 1}


def test_wrong_types_are_refused_cell_by_cell(tmp_path: Path) -> None:
    write(tmp_path, [GOOD] * 3)
    texts = {"member_id": ["1", "x"], "title_id": ["7", "7"], "event_time": ["2024-05-01", "2024-05-02"]}
    pq.write_table(pa.table({**texts, "action": ["play"] * 2}), tmp_path / "interactions" / "b.parquet")
    letters, counts, kept = judge(tmp_path)
    assert counts == {"wrong type": 1}
    named = {"source": "interactions/b.parquet", "row": 1, "column": "member_id", "value": "x", "reason": "wrong type"}
    assert letters == [named]
    assert len(kept) == 4


def test_titles_are_judged_too(tmp_path: Path) -> None:
    titles = pa.table({"title_id": ["7", None, "7", "x", "8"], "runtime_s": ["1", "2", "3", "4", "long"]})
    numbers = pa.table({"title_id": [70, 71, 72, 73, 74, 75]})
    write(tmp_path, [GOOD], titles)
    pq.write_table(numbers, tmp_path / "titles" / "u.parquet")
    letters, counts, _ = judge(tmp_path, "titles")
    assert counts == {"title_id is null": 1, "duplicate title": 1, "wrong type": 2}
    assert {(one["row"], one["column"], one["reason"]) for one in letters} == {
        (1, "title_id", "title_id is null"),
        (2, "title_id", "duplicate title"),
        (3, "title_id", "wrong type"),
        (4, "runtime_s", "wrong type"),
    }


def test_listed_rows_are_capped_and_counts_are_exact(tmp_path: Path) -> None:
    write(tmp_path, [{**GOOD, "action": "juggle"}] * 10 + [{**GOOD, "title_id": 99}] * 3 + [GOOD])
    with open_snapshot(
        Lake.open(str(tmp_path)), SnapshotTime(AS_OF, NOW), HistoriesConfig(max_listed_rows=4)
    ) as snapshot:
        letters = snapshot.rejected_rows(snapshot.interactions)
    assert [row for row in letters["row"].to_pylist() if row >= 0] == [0, 1, 2, 3, 10, 11, 12]
    assert count_rows_by_reason(letters) == {"unknown action": 10, "unknown title": 3}


def test_a_duration_that_is_not_finite_is_a_missing_cell(tmp_path: Path) -> None:
    write(
        tmp_path,
        [{**GOOD, "duration_s": float(one), "title_id": 7 + row % 2} for row, one in enumerate(["nan", "inf"])],
    )
    letters, counts, kept = judge(tmp_path)
    assert (letters, counts, kept) == ([], {}, [0, 1])


def test_an_unreadable_file_is_one_letter_that_counts_its_rows(tmp_path: Path) -> None:
    write(tmp_path, [GOOD] * 20)
    (tmp_path / "interactions" / "z.parquet").write_bytes(b"PAR1 cut")
    letters, counts, kept = judge(tmp_path)
    assert [(one["source"], one["row"], one["reason"]) for one in letters] == [
        ("interactions/z.parquet", -1, "unreadable file")
    ]
    assert counts == {"unreadable file": 1}
    assert len(kept) == 20


def test_corrupt_pages_cost_their_file_only(tmp_path: Path) -> None:
    rows = [{**GOOD, "member_id": member} for member in range(3000)]
    write(tmp_path, rows)
    write(tmp_path, rows, file="b")
    place = tmp_path / "interactions" / "b.parquet"
    content = bytearray(place.read_bytes())
    content[4:6000] = b"\xff" * 5996
    place.write_bytes(content)
    letters, counts, kept = judge(tmp_path)
    assert counts == {"unreadable file": 3000}
    assert [one["source"] for one in letters] == ["interactions/b.parquet"]
    assert len(kept) == 3000


def test_the_budget_is_the_share_of_bad_rows_in_the_snapshot() -> None:
    letters = [rejected_row("a.parquet", 3, "action", "juggle", "unknown action")]
    check_budget("interactions", {"unknown action": 5, AFTER_AS_OF: 900}, 1000, 0.05, letters)
    with pytest.raises(ContractError, match="unknown action: 6") as caught:
        check_budget("interactions", {"unknown action": 6, AFTER_AS_OF: 900}, 1000, 0.05, letters)
    assert caught.value.exit_code == 3
    assert "a.parquet row 3: action = 'juggle'" in str(caught.value)
    assert caught.value.fix
