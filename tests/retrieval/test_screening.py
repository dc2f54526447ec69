import numpy as np
import pytest

from retrieval import exact, screening
from retrieval.filters import Filter

COUNT, DIM, QUERIES = 3000, 6, 40


@pytest.fixture
def small_tiles(monkeypatch):
    """Thirty tiles, so that few titles are enough for what is meant for many."""
    monkeypatch.setattr(screening, "_TILE", QUERIES * COUNT // 30)


def problem(rng):
    titles = np.round(rng.normal(size=(COUNT, DIM)), 1).astype(np.float32)
    titles[rng.integers(0, COUNT, 900)] = titles[rng.integers(0, COUNT, 900)]  # ties
    return titles, rng.normal(size=(QUERIES, DIM)).astype(np.float32)


def plain(titles, queries, k, wanted):
    """By float64 sums and a plain sort: score, then row."""
    scores = np.float32(queries.astype(np.float64) @ titles.T.astype(np.float64))
    wanted.hide(scores)
    rows = np.lexsort((np.broadcast_to(np.arange(len(titles)), scores.shape), -scores), axis=1)[:, :k]
    best = np.take_along_axis(scores, rows, axis=1)
    return np.where(np.isfinite(best), rows, -1), best


@pytest.mark.parametrize("k", [1, 10, 90])
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_nothing_that_can_be_among_the_best_is_passed_over(small_tiles, rng, k, share):
    titles, queries = problem(rng)
    gone = [rng.integers(0, COUNT, i * 7) for i in range(QUERIES)]
    gone[3] = plain(titles, queries[[3]], 500, Filter())[0][0]  # all of the best are excluded
    wanted = Filter(rng.random(COUNT) < share, gone)
    assert screening.pays(QUERIES, COUNT, k)
    found, expected = exact.top_k(exact.Titles.of(titles), queries, k, wanted), plain(titles, queries, k, wanted)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_where_the_sample_misleads_it_shows_and_everything_is_looked_at(small_tiles, rng):
    titles, queries = problem(rng)
    queries[:] = np.abs(queries)
    titles[::30] = np.abs(titles[::30]) + 9  # the first tile alone holds the best: its bar is for others too high
    gone = [np.arange(0, COUNT, 30)[5:]] * QUERIES
    screen = screening.Screen(titles, queries, 20, Filter())
    assert screen.pairs(np.zeros(QUERIES))[2].all()
    for wanted in (Filter(), Filter(None, gone), Filter(np.arange(COUNT) % 30 != 0)):
        found, expected = exact.top_k(exact.Titles.of(titles), queries, 20, wanted), plain(titles, queries, 20, wanted)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


def test_a_bar_that_is_too_high_is_admitted(small_tiles, rng):
    titles, queries = problem(rng)
    titles[1::30], titles[0::30] = 0, np.abs(titles[0::30]) + 99
    few = np.ones(COUNT, bool)
    few[np.arange(0, COUNT, 30)[15:]] = False  # fifteen stand out of all others: twenty never reach their bar
    queries[:] = np.abs(queries) + 1
    _, _, failed = screening.Screen(titles, queries, 50, Filter(few)).pairs(np.zeros(QUERIES))
    found, expected = (
        exact.top_k(exact.Titles.of(titles), queries, 50, Filter(few)),
        plain(titles, queries, 50, Filter(few)),
    )
    assert np.array_equal(found[0], expected[0])
    assert failed.dtype == bool


def test_places_are_those_of_flatnonzero(rng):
    for size in (0, 5, 64, 1003):
        for share in (0.0, 0.01, 0.5, 1.0):
            mask = rng.random((1, size)) < share
            assert np.array_equal(screening.places(mask), np.flatnonzero(mask))


def test_whole_numbers_descend_as_scores_ascend():
    scores = np.float32([-np.inf, -3e38, -1, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38, np.inf])
    keys = screening.descending(scores)
    assert keys[4] == keys[5]
    assert np.all(np.diff(keys)[np.arange(9) != 4] < 0)
    assert keys.max() < 2**31
    assert keys.min() >= -(2**31)
