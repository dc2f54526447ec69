"""The preview counts what the night will: members, active ones, and exact copies."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.job import simulate_rejections
from embeddings.histories.preview import count_repeats, preview
from embeddings.histories.snapshot import SnapshotTime, open_snapshot
from stores.lake.contract import Lake
from stores.publishing.suppression_list import SuppressionList
from stores.releases.dead_letter import count_rows_by_reason

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
LENIENT = HistoriesConfig(max_bad_fraction=1.0)


def lake(folder: Path) -> Lake:
    """A hundred events of ten members, member 0 idle for a week; ten exact copies, ten that differ in one column."""
    rows = [
        {
            "member_id": at % 10,
            "title_id": at % 3,
            "event_time": AS_OF - timedelta(days=7 if at % 10 == 0 else 0, hours=at + 1),
            "action": "play",
            "duration_s": None if at % 4 else 60.0,
            "device": "tv",
        }
        for at in range(100)
    ]
    rows += rows[:10] + [{**row, "device": "phone"} for row in rows[10:20]]
    for name, table in (("interactions", pa.Table.from_pylist(rows)), ("titles", pa.table({"title_id": [0, 1, 2]}))):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-0.parquet")
    return Lake.open(str(folder))


def test_copies_are_counted_as_the_night_counts_them(tmp_path: Path) -> None:
    found = lake(tmp_path)
    letters, error = simulate_rejections(found, AS_OF, LENIENT, 4)
    assert error is None
    with open_snapshot(found, SnapshotTime(AS_OF, AS_OF), LENIENT) as snapshot:
        assert count_repeats(snapshot) == count_rows_by_reason(letters["interactions"])["duplicate"] == 10


def test_members_are_counted_of_accepted_events_up_to_the_moment(tmp_path: Path) -> None:
    found = lake(tmp_path)
    seen = preview(found, AS_OF, AS_OF - timedelta(days=6), LENIENT)
    assert (seen.members, seen.active) == (10, 9)
    assert preview(found, AS_OF, None, LENIENT).active == 10
    salt = SuppressionList("s", frozenset())
    erased = SuppressionList("s", frozenset({salt.hash_id(3), salt.hash_id(99)}))
    assert preview(found, AS_OF, None, LENIENT, erased).members == 9
