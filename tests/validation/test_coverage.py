import numpy as np
import pyarrow as pa
import pytest

from validation.coverage import Coverage


def shard(ids, marks=None, release="r"):
    marks = [f"hash-{one}" for one in ids] if marks is None else marks
    return pa.table({"id": pa.array(ids, pa.int64()), "mark": marks, "release_id": [release] * len(ids)})


def counted(expected, found, joined=False):
    coverage = Coverage("r")
    (coverage._add_joined if joined else coverage.add)(expected, found)
    return coverage.figures()


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (shard([1, 2, 3]), shard([1, 2, 3])),
        (shard([1, 2, 3]), shard([3, 1, 2])),
        (shard([1, 2, 3]), shard([1, 2, 3], release="other")),
        (shard([1, 2, 3], [None] * 3), shard([1, 2, 3], [None] * 3)),
        (shard([1, 2, 2]), shard([1, 2, 2])),
        (shard([1, None]), shard([1, None])),
        (shard([1, 2, 3]), shard([1, 2, 4])),
        (shard([1, 2, 3]), shard([1, 2, 3], ["a", "b", "c"])),
        (shard([]), shard([])),
    ],
)
def test_the_short_way_counts_what_the_join_counts(expected, found):
    assert counted(expected, found) == counted(expected, found, joined=True)


def test_shards_add_up():
    coverage = Coverage("r")
    for part in np.array_split(np.arange(90), 4):
        coverage.add(shard(part.tolist()), shard(part.tolist()[1:]))
    figures = coverage.figures()
    assert figures["expected"] == 90
    assert figures["coverage"] == pytest.approx(86 / 90)
    assert figures["id_examples"]["missing"] == ["0", "23", "46", "68"]
    assert figures["agreement"] == figures["fresh_share"] == 1
