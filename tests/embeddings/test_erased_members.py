"""Members on the suppression list: no history, no letter, and no fault of the lake."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig, read_histories
from embeddings.histories.quarantine import ERASED
from embeddings.histories.snapshot import SnapshotTime, open_snapshot
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.publishing.suppression_list import read_suppression_list, suppress

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(params=[int, lambda i: f"mémber/{i}"], ids=["int64", "string"])
def lake(request, tmp_path):
    rows = [(request.param(i), title) for i in range(9) for title in (1, 2, 99)]  # 99 is no title
    at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * len(rows), pa.timestamp("us", "UTC"))
    events = {"member_id": [m for m, _ in rows], "title_id": [t for _, t in rows], "event_time": at}
    for name, table in (("interactions", {**events, "action": ["play"] * len(rows)}), ("titles", {"title_id": [1, 2]})):
        (tmp_path / "lake" / name).mkdir(parents=True)
        pq.write_table(pa.table(table), tmp_path / "lake" / name / "part.parquet")
    return str(tmp_path / "lake"), request.param


def test_an_erased_member_has_no_history_and_no_letter(lake, tmp_path):
    place, ids = lake
    storage = Storage(str(tmp_path / "ws"))
    for i in (3, 5, 77):
        suppress(storage, ids(i))
    erased = read_suppression_list(storage)
    config = HistoriesConfig(max_bad_fraction=0.5)
    histories, _ = read_histories(Lake.open(place), AS_OF, config, erased)
    assert set(histories["member_id"].to_pylist()) == {ids(i) for i in range(9) if i not in (3, 5)}
    with open_snapshot(Lake.open(place), SnapshotTime(AS_OF, AS_OF), config, erased) as snapshot:
        assert snapshot.refused["interactions"] == {ERASED: 6, "unknown title": 7}
        letters = snapshot.rejected_rows(snapshot.interactions).to_pylist()
    assert [row["value"] for row in letters if row["reason"] == ERASED] == ["6 rows: not listed one by one"]
    assert len([row for row in letters if row["reason"] == "unknown title"]) == 7


def test_without_a_list_everybody_is_there(lake):
    place, _ = lake
    histories, _ = read_histories(Lake.open(place), AS_OF, HistoriesConfig(max_bad_fraction=0.5))
    assert histories.num_rows == 9
