import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment import Gram
from stores.errors import AlignmentError, CorruptError, MismatchError, NotFoundError


def rows(count: int, dim: int = 6, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dim)) * 3 + 1).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_sum_of_outer_products_in_float64(dtype: type) -> None:
    x = rows(20_000, dtype=dtype)
    gram = Gram.of(x)
    wide = x.astype(np.float64)
    assert gram.moment.dtype == np.float64
    assert gram.count == len(x)
    np.testing.assert_allclose(gram.moment, wide.T @ wide, rtol=1e-12)
    np.testing.assert_allclose(gram.mean, wide.T @ wide / len(x), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 500), max_size=6),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-6, 1, 1e6]),
)
def test_shuffled_shards_merge_to_the_same(cuts: list[int], seed: int, scale: float) -> None:
    x = rows(500) * scale
    shuffled = np.random.default_rng(seed).permutation(x)
    shards = [Gram.of(part) for part in np.split(shuffled, sorted(cuts))]
    merged = sum(shards, Gram.zero(6))
    again = sum(shards, Gram.zero(6))
    np.testing.assert_allclose(merged.moment, Gram.of(x).moment, rtol=1e-12)
    assert merged.count == 500
    assert merged.moment.tobytes() == again.moment.tobytes()


def test_merging_is_associative_and_taking_out_undoes_it() -> None:
    a, b, c = (Gram.of(rows(50, seed=seed)) for seed in range(3))
    np.testing.assert_allclose(((a + b) + c).moment, (a + (b + c)).moment, rtol=1e-14)
    rest = a + b - b
    np.testing.assert_allclose(rest.moment, a.moment, rtol=1e-12)
    assert rest.count == a.count


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.integers(0, 3), min_size=40, max_size=40).filter(any))
def test_a_weight_is_a_number_of_copies(weights: list[int]) -> None:
    x = rows(40)
    copied = Gram.of(np.repeat(x, weights, axis=0))
    weighted = Gram.of(x, np.array(weights))
    np.testing.assert_allclose(weighted.moment, copied.moment, rtol=1e-12, atol=1e-12)
    assert weighted.count == copied.count


def test_weight_zero_is_absent_to_the_bit_even_where_the_row_is_not_finite() -> None:
    x = rows(40)
    weights = np.ones(40)
    weights[[3, 7]] = 0
    spoiled = x.copy()
    spoiled[3] = np.nan
    expected = Gram.of(x, weights)
    assert Gram.of(spoiled, weights).moment.tobytes() == expected.moment.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named_by_position(dtype: type, value: float) -> None:
    x = rows(30_000, dtype=dtype)
    x[17, 2] = x[20_001, 0] = value
    with pytest.raises(AlignmentError, match="positions 17, 20001 are not finite"):
        Gram.of(x)
    weights = np.ones(len(x))
    weights[:5] = 0
    with pytest.raises(AlignmentError, match="positions 17, 20001 are not finite"):
        Gram.of(x, weights)


def test_many_bad_rows_are_counted() -> None:
    with pytest.raises(AlignmentError, match=r"positions 0, 1, .*9, … \(50 in all\)"):
        Gram.of(np.full((50, 3), np.nan))


def test_unusable_input_is_refused() -> None:
    with pytest.raises(AlignmentError, match="shape"):
        Gram.of(np.ones(3))
    with pytest.raises(AlignmentError, match="vectors are no array"):
        Gram.of([[1.0, 2.0], [3.0]])  # type: ignore[arg-type]
    for kind in ("<U1", complex, object):
        with pytest.raises(AlignmentError, match="vectors are"):
            Gram.of(np.ones((2, 3)).astype(kind))
    with pytest.raises(AlignmentError, match="positions 1 are negative"):
        Gram.of(np.ones((2, 3)), np.array([1.0, -1.0]))
    with pytest.raises(AlignmentError, match="weights of the shape"):
        Gram.of(np.ones((2, 3)), np.ones(3))
    with pytest.raises(MismatchError, match="width 3 and 4"):
        Gram.of(np.ones((2, 3))) + Gram.of(np.ones((2, 4)))
    with pytest.raises(AlignmentError, match="no rows"):
        _ = Gram.zero(3).mean


def test_a_file_gives_the_same_bits_back(tmp_path: Path) -> None:
    gram = Gram.of(rows(100), np.linspace(0, 2, 100))
    gram.save(tmp_path / "gram")
    loaded = Gram.load(tmp_path / "gram")
    assert loaded.moment.tobytes() == gram.moment.tobytes()
    assert loaded.count == gram.count
    (tmp_path / "gram").write_bytes(b"something else entirely")
    with pytest.raises(CorruptError):
        Gram.load(tmp_path / "gram")
    with pytest.raises(NotFoundError, match="there is no saved Gram"):
        Gram.load(tmp_path / "another")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_does_not_depend_on_rows(dtype: type) -> None:
    peak(rows(100))
    assert peak(np.ones((400_000, 16), dtype)) <= 1.05 * peak(np.ones((40_000, 16), dtype))


def test_weights_cost_no_copy_of_the_rows() -> None:
    x = np.ones((400_000, 32))
    weights = np.arange(len(x)) % 3
    assert peak(x, weights.astype(float)) < 0.15 * x.nbytes


def peak(x: np.ndarray, weights: np.ndarray | None = None) -> int:
    """Bytes that a Gram takes beside its rows."""
    tracemalloc.start()
    Gram.of(x, weights)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most
