"""Laws of sorting: by member, time and place; repeats go, the first stays; runs of members are told apart."""

import numpy as np
import pyarrow as pa
import pytest

from embeddings.histories.events import RawEvents, sort_order


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def block(rng):
    """Five hundred events of a few members at a few moments, one in five told twice, in any order."""
    member, time = rng.integers(0, 12, 500).astype(np.int32), rng.integers(-3, 3, 500) * 10**15
    title, again = rng.integers(0, 40, 500).astype(np.int32), rng.integers(0, 500, 100)
    rows = rng.permutation(np.append(np.arange(500), again))
    return pa.table(
        {
            "member": member[rows],
            "event_time": time[rows],
            "pos": rng.permutation(600),
            "title_code": title[rows],
            "action_code": np.ones(600, np.int8),
            "content": title[rows].astype(np.uint64),
        }
    )


@pytest.mark.parametrize("moments", [1, 7, 10**12])
def test_the_order_is_that_of_a_plain_sort(rng, moments):
    member, time = rng.integers(0, 50, 4_000).astype(np.int32), rng.integers(0, moments, 4_000)
    pos = rng.permutation(4_000)
    np.testing.assert_array_equal(sort_order(member, time, pos), np.lexsort((pos, time, member)))


def test_of_repeats_the_first_in_the_lake_stays(block):
    events, repeats = RawEvents.from_batch(block).sorted(np.arange(600))
    rows = sorted(block.to_pylist(), key=lambda row: (row["member"], row["event_time"], row["pos"]))
    first, later = {}, []
    for row in rows:
        if first.setdefault((row["member"], row["event_time"], row["title_code"]), row) is not row:
            later.append(row["pos"])
    assert list(zip(events.member, events.time, events.title, strict=True)) == list(first)
    assert repeats.tolist() == later
    assert len(later) >= 100


@pytest.mark.parametrize("ends", [[12], [3, 3, 7, 12], [0, 5, 12, 12], list(range(1, 13)) + [12] * 300])
def test_every_run_has_the_rows_of_its_members(block, ends):
    member = block["member"].to_numpy()
    runs = RawEvents.from_batch(block).split_by_member(ends)
    for rows, first, end in zip(runs, [0, *ends], ends, strict=False):
        np.testing.assert_array_equal(rows, np.flatnonzero((member >= first) & (member < end)))
    assert sum(map(len, runs)) == 600
