import numpy as np
import pytest

from retrieval import exact, threshold_scan, topk_pruning
from retrieval import topk_numba as loops
from retrieval.filters import Filter

COUNT, DIM, QUERIES = 3000, 6, 300
WAYS = pytest.mark.parametrize("compiled", [False, True])


@pytest.fixture(params=[1, 3, 8, 30])
def tiles(request, monkeypatch):
    """So many tiles, and compiled loops though titles are few."""
    monkeypatch.setattr(exact, "_TILE_CELLS", 256 * COUNT * 4 // request.param)
    monkeypatch.setattr(threshold_scan, "_TITLES_PER_TILE", COUNT // request.param)
    monkeypatch.setattr(exact, "_MIN_TITLES_FOR_SCAN", 1)
    return request.param


def problem(rng):
    titles = np.round(rng.normal(size=(COUNT, DIM)), 1).astype(np.float32)
    titles[rng.integers(0, COUNT, 900)] = titles[rng.integers(0, COUNT, 900)]  # ties
    return titles, rng.normal(size=(QUERIES, DIM)).astype(np.float32)


def plain(titles, queries, k, wanted):
    """By float64 sums and a plain sort: score, then row."""
    scores = np.float32(queries.astype(np.float64) @ titles.T.astype(np.float64))
    if wanted.allowed is not None:
        scores[:, ~wanted.allowed] = -np.inf
    scores[wanted.exclusion_pairs] = -np.inf
    rows = np.lexsort((np.broadcast_to(np.arange(len(titles)), scores.shape), -scores), axis=1)[:, :k]
    best = np.take_along_axis(scores, rows, axis=1)
    return np.where(np.isfinite(best), rows, -1), best


def same(titles, queries, k, wanted, compiled):
    base = exact.TitleVectors.of(titles)
    found = exact.top_k(exact.TitleVectors(base.vectors, base.max_norm, compiled=compiled), queries, k, wanted)
    expected = plain(titles, queries, k, wanted)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@WAYS
@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (10, 0.6), (90, 1.0)])
def test_nothing_that_can_be_among_the_best_is_passed_over(tiles, rng, k, share, compiled):
    titles, queries = problem(rng)
    gone = [rng.integers(0, COUNT, i) for i in range(QUERIES)]
    gone[3] = plain(titles, queries[[3]], 500, Filter())[0][0]  # all of the best are excluded
    gone[4] = np.arange(5, COUNT)  # five are left
    queries[5] = 0  # everything is as good
    queries[6] *= 1e-30
    queries[7] *= 1e15
    same(titles, queries, k, Filter(rng.random(COUNT) < share, gone), compiled)


@WAYS
def test_scores_below_zero_are_in_order_too(tiles, rng, compiled):
    titles, queries = problem(rng)
    titles[:, 0] -= 40
    queries[::2, 0] = 1  # every other query likes nothing at all
    same(titles, queries, 20, Filter(), compiled)


@WAYS
@pytest.mark.parametrize("centre", [0.0, 2e-3, -2e-3])
def test_scores_that_differ_from_zero_by_no_more_than_they_err(tiles, rng, compiled, centre):
    titles, queries = problem(rng)
    titles[:, 0] = rng.normal(size=COUNT)
    titles[:, 1] = centre + 1e-3 * rng.normal(size=COUNT) - titles[:, 0]  # what is left when both have been rounded?
    queries[:] = np.eye(DIM)[0] + np.eye(DIM)[1]
    queries[::3, 2:] = 1e-5 * rng.normal(size=(100, DIM - 2))
    same(titles, queries, 30, Filter(), compiled)


@WAYS
def test_titles_in_the_worst_order_and_of_unlike_length(tiles, rng, compiled):
    titles, queries = problem(rng)
    titles *= np.geomspace(1e-3, 1e3, COUNT, dtype=np.float32)[:, None]  # each tile has better ones than those before
    same(titles, queries, 15, Filter(None, [np.arange(COUNT - i, COUNT) for i in range(QUERIES)]), compiled)


def test_what_is_kept_is_little_more_than_it_must_be(rng):
    titles, queries = rng.normal(size=(20_000, 32)).astype(np.float32), rng.normal(size=(60, 32)).astype(np.float32)
    query, _ = exact.TitleVectors.of(titles).exact_scan(5, queries, 50, Filter()).surviving_pairs()
    assert np.bincount(query, minlength=60).min() >= 50
    assert len(query) < 60 * 50 * 2
    _, count = threshold_scan.ThresholdScan(titles, 9.0, queries, 50, Filter()).candidate_lists()
    assert (count >= 50).mean() > 0.9  # for the others the bar was too high
    assert count.max() < 60


def test_who_cannot_be_answered_by_a_guess_is_told(rng):
    titles, queries = problem(rng)
    queries[5] = 0  # everything is as good: there is no room for all
    _, count = threshold_scan.ThresholdScan(
        titles, float(np.linalg.norm(titles, axis=1).max()), queries[:256], 20, Filter()
    ).candidate_lists()
    assert count[5] == -1
    _, left = threshold_scan.ThresholdScan(
        titles, 1e3, queries[:9], 20, Filter(np.arange(COUNT) < 12)
    ).candidate_lists()
    assert np.all(left == -1)  # twelve are no twenty


@pytest.mark.parametrize("stride", [1, 4])
def test_what_is_excluded_is_struck_from_its_tile_only(stride):
    scores = np.zeros((3, 5), dtype=np.float32)
    gone = Filter(None, [np.array([stride, 0, 2 * stride + 1]), np.array([], dtype=int), np.array([4 * stride, 99])])
    loops.mask_excluded(scores, 0, stride, *gone.flat_exclusions)
    struck = {tuple(place) for place in np.argwhere(np.isneginf(scores)).tolist()}
    assert struck == {(0, 1), (0, 0), (2, 4)} | ({(0, 3)} if stride == 1 else set())


def test_places_are_those_of_flatnonzero(rng):
    for size in (0, 5, 64, 1003):
        for share in (0.0, 0.01, 0.5, 1.0):
            mask = rng.random((1, size)) < share
            assert np.array_equal(topk_pruning.true_positions(mask), np.flatnonzero(mask))


def test_lists_are_seated_in_their_rows():
    table = np.full((4, 3), -1)
    table.ravel()[topk_pruning.list_positions(np.array([2, 0, 3, 1]), 3)] = np.arange(6)
    assert table.tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4], [5, -1, -1]]


def test_whole_numbers_descend_as_scores_ascend():
    scores = np.float32([-np.inf, -3e38, -1, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38, np.inf])
    keys = topk_pruning.sort_keys(scores)
    assert keys[4] == keys[5]
    assert np.all(np.diff(keys)[np.arange(9) != 4] < 0)
    assert keys.max() < 2**31
    assert keys.min() >= -(2**31)
