"""Bad rows are found by halving; all others are encoded as if the bad ones were not there."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.encode.bisection import encode_rows


def model(bad: set[int], fault: str):  # type: ignore[no-untyped-def]
    def encode(rows: pa.Table) -> np.ndarray:
        values = rows["id"].to_numpy()
        hit = np.isin(values, list(bad))
        if hit.any() and fault == "raise":
            raise RuntimeError("no")
        vectors = np.stack([values, values * 2], axis=1).astype(np.float32)
        if fault == "nan":
            vectors[hit] = np.nan
        return vectors[:, :1] if hit.any() and fault == "shape" else vectors

    return encode


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
@settings(deadline=None)
@given(count=st.integers(0, 40), data=st.data())
def test_exactly_the_bad_rows_are_refused(fault: str, count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=6)) if count else set()
    rows = pa.table({"id": pa.array(range(count), pa.int64())})
    vectors, refused = encode_rows(model(bad, fault), rows, 2)
    assert [position for position, _ in refused] == sorted(bad)
    good = [row for row in range(count) if row not in bad]
    np.testing.assert_array_equal(vectors[good], np.array([[row, 2 * row] for row in good]).reshape(-1, 2))
    assert not vectors[sorted(bad)].any()


def test_a_sound_batch_costs_one_call() -> None:
    calls = []

    def encode(rows: pa.Table) -> np.ndarray:
        calls.append(rows.num_rows)
        return np.ones((rows.num_rows, 2), np.float32)

    encode_rows(encode, pa.table({"id": range(64)}), 2)
    assert calls == [64]


def test_the_reason_is_kept() -> None:
    _, refused = encode_rows(model({1}, "raise"), pa.table({"id": [0, 1]}), 2)
    assert refused == [(1, "RuntimeError: no")]
