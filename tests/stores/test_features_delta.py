"""Differences between two tables of vectors."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.errors import MismatchError
from stores.features import delta
from stores.features.delta import compare, vectors
from stores.features.views import MEMBERS
from stores.release import Release


def table(rows: dict, dim: int = 2, kind: pa.DataType | None = None) -> pa.Table:
    ids = pa.array(list(rows), kind or pa.int64())
    flat = pa.array(np.array(list(rows.values()), dtype=np.float32).reshape(-1), pa.float32())
    return pa.table({"member_id": ids, "embedding": pa.FixedSizeListArray.from_arrays(flat, dim)})


ROWS = st.dictionaries(st.integers(0, 9), st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, float("nan")])] * 2), min_size=1)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_applying_the_difference_gives_the_new_release(old, new):
    part = compare(table(old), table(new), MEMBERS)
    gone = set(part.departed.to_pylist())
    held = {i: np.float32(row).tobytes() for i, row in old.items() if i not in gone}
    written = zip(part.written.column("member_id").to_pylist(), vectors(part.written), strict=True)
    changes = {i: row.tobytes() for i, row in written}
    wanted = {i: np.float32(row).tobytes() for i, row in new.items()}
    assert {**held, **changes} == wanted
    assert all(held.get(i) != row for i, row in changes.items())


def test_another_width_changes_every_row():
    part = compare(table({1: [0, 0]}), table({1: [0, 0, 0]}, dim=3), MEMBERS)
    assert part.written.num_rows == 1


SEEDS = {i: float(i) for i in range(30)}
FEW = {i: seed + 0.5 * (i % 9 == 0) for i, seed in SEEDS.items() if i != 7} | {40: 40.0}
ANEW = {i: seed + 0.5 for i, seed in SEEDS.items() if i % 9 == 0} | {40: 40.0}


def every(parts) -> list:
    return sorted(one for part in parts for one in part.to_pylist())


@pytest.mark.parametrize("to", [FEW, {i: seed + 1 for i, seed in SEEDS.items()}, {1: 1.0}, SEEDS])
def test_the_release_of_a_row_tells_what_its_values_tell(local_nights, to):
    old, new = (local_nights.seal(members, {1: 1.0}) for members in (SEEDS, to))
    for before, after in ((old, new), (new, old)):
        parts = list(delta.deltas(MEMBERS, before, after))
        whole = [release.members().to_table().sort_by("member_id").combine_chunks() for release in (before, after)]
        by_value = compare(*whole, MEMBERS)
        assert every(part.written["member_id"] for part in parts) == every([by_value.written["member_id"]])
        assert every(part.departed for part in parts) == every([by_value.departed])
        assert every(part.arrived for part in parts) == every([by_value.arrived])


@pytest.mark.parametrize(("anew", "by_value", "changed"), [(30, False, 0), (9, False, 9), (9, True, 0)])
def test_rows_made_again_with_the_same_values(local_nights, anew, by_value, changed):
    """By a release between: a few of a shard count as changed, most of it is compared."""
    old = local_nights.seal(SEEDS, {1: 1.0})
    for i in range(anew):
        del local_nights.changed["m", i, SEEDS[i]]
    local_nights.seal(SEEDS, {1: 1.0})
    new = local_nights.seal(SEEDS, {1: 1.0})
    assert sum(part.rows for part in delta.deltas(MEMBERS, old, new, by_value)) == changed


def test_where_most_rows_are_older_no_older_vector_is_read(local_nights, monkeypatch):
    old, new = (local_nights.seal(members, {1: 1.0}) for members in (SEEDS, FEW))
    asked, read = [], Release.read_table
    monkeypatch.setattr(Release, "read_table", lambda one, *rest: asked.append((one, rest[1])) or read(one, *rest))
    rows = sum(part.rows for part in delta.deltas(MEMBERS, old, new))
    assert rows == len(ANEW) + 1
    assert [names for one, names in asked if one is old and "embedding" in names] == []
    assert [names for one, names in asked if one is new and "embedding" not in names] == []


@pytest.mark.parametrize(("room", "found"), [(2**20, 1), (0, 2)])
def test_a_difference_that_fits_is_found_once(monkeypatch, room, found):
    calls = []

    def deltas(view, old, new):
        calls.append(new)
        yield compare(None, table({1: [0, 0]}), view)
        yield compare(table({1: [0, 0]}), table({1: [1, 0]}), view)

    monkeypatch.setattr(delta, "deltas", deltas)
    differences, new = delta.Differences(room), Release("ws", "20260101T000000Z-abcd")
    first, second = (list(differences.between(MEMBERS, None, new)) for _ in range(2))
    assert [part.written for part in first] == [part.written for part in second]
    assert len(calls) == found


def test_an_id_twice_and_other_ids_are_refused():
    twice = pa.concat_tables([table({1: [0, 0]}), table({1: [1, 1]})])
    with pytest.raises(MismatchError, match="repeat a member_id"):
        compare(None, twice, MEMBERS)
    with pytest.raises(MismatchError, match="int64 and string"):
        compare(table({1: [0, 0]}), table({"a": [0, 0]}, kind=pa.string()), MEMBERS)
