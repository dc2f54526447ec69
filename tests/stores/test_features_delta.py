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
