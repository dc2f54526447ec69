import numpy as np
import pyarrow as pa
import pytest

from validation import statistics
from validation.statistics import VectorStatistics, bin_centre, matrix, norm_bin

RNG = np.random.default_rng(3)


def of(x, parts=1):
    seen = VectorStatistics()
    for part in np.array_split(np.arange(len(x)), parts):
        seen.add(pa.array(part), x[part])
    return seen


def test_figures_equal_those_of_the_whole_matrix():
    x = RNG.normal(size=(501, 6)) * [3, 2, 1, 1, 0.5, 0.1]
    figures, norms = of(x, parts=7).figures(), np.linalg.norm(x, axis=1)
    assert figures["rows"] == 501
    assert figures["width"] == 6
    assert figures["norm_min"] == pytest.approx(norms.min())
    assert figures["norm_max"] == pytest.approx(norms.max())
    assert figures["norm_median"] == pytest.approx(np.median(norms), rel=0.012)
    assert sum(figures["norms"]["counts"]) == 501
    np.testing.assert_allclose(figures["energy"], (x**2).mean(axis=0) / (x**2).mean(axis=0).sum(), atol=1e-6)


def test_batches_do_not_matter():
    x = RNG.normal(size=(300, 5))
    one, many = of(x).figures(), of(x, parts=50).figures()
    assert one.keys() == many.keys()
    assert one["effective_rank"] == pytest.approx(many["effective_rank"])
    assert one["norms"] == many["norms"]
    assert one["duplicate_share"] == many["duplicate_share"]


@pytest.mark.parametrize(
    ("x", "rank"),
    [
        (np.ones((50, 4)), 0.0),
        (np.outer(np.arange(50.0), [1, 2, 3]) + 1e3, 1.0),
        (np.vstack([np.eye(4), -np.eye(4)] * 10), 4.0),
        (np.zeros((0, 4)), 0.0),
    ],
)
def test_effective_rank_counts_directions(x, rank):
    assert of(x).effective_rank == pytest.approx(rank, abs=1e-6)


def test_effective_rank_ignores_a_shift_and_a_rotation():
    x = RNG.normal(size=(400, 5)) * [4, 2, 1, 1, 1]
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert of(x @ turn + 7).effective_rank == pytest.approx(of(x).effective_rank, rel=1e-6)


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_duplicates_are_counted_exactly_while_the_sketch_holds(copies):
    x = np.repeat(RNG.normal(size=(200, 3)), copies, axis=0)
    assert of(x, parts=3).figures()["duplicate_share"] == pytest.approx(1 - 1 / copies)


def test_duplicates_are_estimated_beyond_the_sketch(monkeypatch):
    monkeypatch.setattr(statistics, "SKETCH_SIZE", 1024)
    x = np.repeat(RNG.normal(size=(8_000, 3)).astype(np.float32).astype(np.float64), 2, axis=0)
    seen = of(x, parts=9)
    assert len(seen._hashes) == 1024
    assert seen.distinct == pytest.approx(8_000, rel=5 / np.sqrt(1024))


def test_one_zero_and_minus_zero_are_the_same_vector():
    assert of(np.array([[0.0, 1.0], [-0.0, 1.0]])).distinct == 1


def test_rows_that_are_not_finite_are_named_and_left_out():
    x = RNG.normal(size=(20, 3))
    x[4, 1], x[9, 0] = np.nan, np.inf
    figures = of(x, parts=4).figures()
    assert figures["finite_share"] == 0.9
    assert figures["not_finite_ids"] == ["4", "9"]
    assert np.isfinite(figures["effective_rank"])


def test_nothing_has_no_norm():
    figures = VectorStatistics().figures()
    assert figures["norm_median"] is None
    assert figures["finite_share"] is None


def test_a_column_of_lists_becomes_a_matrix_and_odd_rows_nan():
    fixed = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2))
    np.testing.assert_array_equal(matrix(fixed), [[1, 2], [np.nan, np.nan], [3, 4]])
    ragged = pa.array([[1, 2], [3], None], pa.list_(pa.float32()))
    assert np.isnan(matrix(ragged)).any(axis=1).tolist() == [False, True, True]
    sliced = pa.array([[9, 9], [1, 2], [3, 4]], pa.list_(pa.float32(), 2)).slice(1)
    np.testing.assert_array_equal(matrix(sliced), [[1, 2], [3, 4]])


def test_bins_hold_their_centres():
    norms = np.geomspace(1e-6, 1e6, 200)
    centres = np.array([bin_centre(b) for b in norm_bin(norms)])
    np.testing.assert_allclose(centres, norms, rtol=0.006)
