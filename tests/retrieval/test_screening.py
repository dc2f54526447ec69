import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.products import Bfloat16
from retrieval import exact, marks, screening
from retrieval.filters import Filter
from retrieval.products import Plain, at_most, lowest, scores_of, settle

COUNT, DIM, QUERIES = 3000, 6, 300
PRODUCTS = pytest.mark.parametrize("rough", [None, Bfloat16])


@pytest.fixture(params=[1, 3, 8, 30])
def tiles(request, monkeypatch):
    """So many tiles, whoever multiplies, and rough products though titles are few."""
    monkeypatch.setattr(exact, "_tiles", lambda queries, titles, size: request.param)
    monkeypatch.setattr(exact, "_MANY", 1)
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
    scores[wanted.pairs] = -np.inf
    rows = np.lexsort((np.broadcast_to(np.arange(len(titles)), scores.shape), -scores), axis=1)[:, :k]
    best = np.take_along_axis(scores, rows, axis=1)
    return np.where(np.isfinite(best), rows, -1), best


def same(titles, queries, k, wanted, rough):
    base = exact.Titles.of(titles)
    found = exact.top_k(exact.Titles(base.vectors, base.longest, rough=rough), queries, k, wanted)
    expected = plain(titles, queries, k, wanted)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@PRODUCTS
@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (10, 0.6), (90, 1.0)])
def test_nothing_that_can_be_among_the_best_is_passed_over(tiles, rng, k, share, rough):
    titles, queries = problem(rng)
    gone = [rng.integers(0, COUNT, i) for i in range(QUERIES)]
    gone[3] = plain(titles, queries[[3]], 500, Filter())[0][0]  # all of the best are excluded
    gone[4] = np.arange(5, COUNT)  # five are left
    queries[5] = 0  # everything is as good
    queries[6] *= 1e-30
    queries[7] *= 1e15
    same(titles, queries, k, Filter(rng.random(COUNT) < share, gone), rough)


@PRODUCTS
def test_scores_below_zero_are_in_order_too(tiles, rng, rough):
    titles, queries = problem(rng)
    titles[:, 0] -= 40
    queries[::2, 0] = 1  # every other query likes nothing at all
    same(titles, queries, 20, Filter(), rough)


@PRODUCTS
@pytest.mark.parametrize("centre", [0.0, 2e-3, -2e-3])
def test_scores_that_differ_from_zero_by_no_more_than_they_err(tiles, rng, rough, centre):
    titles, queries = problem(rng)
    titles[:, 0] = rng.normal(size=COUNT)
    titles[:, 1] = centre + 1e-3 * rng.normal(size=COUNT) - titles[:, 0]  # what is left when both have been rounded?
    queries[:] = np.eye(DIM)[0] + np.eye(DIM)[1]
    queries[::3, 2:] = 1e-5 * rng.normal(size=(100, DIM - 2))
    same(titles, queries, 30, Filter(), rough)


@PRODUCTS
def test_titles_in_the_worst_order_and_of_unlike_length(tiles, rng, rough):
    titles, queries = problem(rng)
    titles *= np.geomspace(1e-3, 1e3, COUNT, dtype=np.float32)[:, None]  # each tile has better ones than those before
    same(titles, queries, 15, Filter(None, [np.arange(COUNT - i, COUNT) for i in range(QUERIES)]), rough)


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.sampled_from([1e-35, 1e-6, 1.0, 1e6, 1e15]))
@settings(max_examples=60, deadline=None)
def test_rough_scores_err_by_no_more_than_they_say(seed, dim, size):
    rng = np.random.default_rng(seed)
    titles = (rng.normal(size=(40, dim)) * size).astype(np.float32)
    queries = (rng.normal(size=(9, dim)) * rng.choice([1e-6, 1, 1e6])).astype(np.float32)
    true = queries.astype(np.float64) @ titles.T.astype(np.float64)
    for product in (Bfloat16(titles, 3), Plain(titles, float(np.linalg.norm(titles.astype(float), axis=1).max()), 3)):
        asked = product.ask(queries)
        for tile in range(3):
            codes = asked.scores(tile).copy()
            settle(codes)
            part = true[:, tile::3]
            allowed = asked.error[:, None] + product.grain * (np.abs(part) + asked.error[:, None]) + 1e-37
            assert np.all(np.abs(scores_of(codes) - part) <= allowed)


def test_a_screen_keeps_little_more_than_it_must(rng):
    titles, queries = rng.normal(size=(20_000, 32)).astype(np.float32), rng.normal(size=(60, 32)).astype(np.float32)
    for product in (Plain(titles, 9.0, 5), Bfloat16(titles, 5)):
        query, _ = screening.Screen(product, queries, 20_000, 50, Filter()).pairs()
        assert np.bincount(query, minlength=60).min() >= 50
        assert len(query) < 60 * 50 * 2


def test_codes_order_like_scores_and_round_down():
    scores = np.array([-np.inf, -3e38, -1.003, -1, -1e-30, 0, 1e-30, 1, 1.003, 3e38])
    for like in (np.zeros(0, np.int16), np.zeros(0, np.float32)):
        codes = at_most(scores, like)
        assert codes.dtype == like.dtype
        assert np.all(np.diff(codes.astype(np.float64)) >= 0)
        assert np.all(scores_of(codes)[1:] <= scores[1:])
        assert np.all(codes > lowest(like))
        assert np.allclose(scores_of(codes)[1:], scores[1:], rtol=2**-7, atol=1e-40)


def test_places_are_those_of_flatnonzero(rng):
    for size in (0, 5, 64, 1003):
        for share in (0.0, 0.01, 0.5, 1.0):
            mask = rng.random((1, size)) < share
            assert np.array_equal(marks.places(mask), np.flatnonzero(mask))


def test_lists_are_seated_in_their_rows():
    table = np.full((4, 3), -1)
    table.ravel()[marks.seats(np.array([2, 0, 3, 1]), 3)] = np.arange(6)
    assert table.tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4], [5, -1, -1]]


def test_whole_numbers_descend_as_scores_ascend():
    scores = np.float32([-np.inf, -3e38, -1, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38, np.inf])
    keys = marks.descending(scores)
    assert keys[4] == keys[5]
    assert np.all(np.diff(keys)[np.arange(9) != 4] < 0)
    assert keys.max() < 2**31
    assert keys.min() >= -(2**31)
