import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval import exact
from retrieval.backends import BACKENDS
from retrieval.engine import Engine
from retrieval.filters import Filter
from stores.errors import MismatchError, UsageError

SMALL = st.floats(-8, 8, width=32).map(lambda x: round(x * 2) / 2)  # many ties, and sums that are exact


@st.composite
def problems(draw):
    n, d, q, k = (draw(st.integers(*span)) for span in ((0, 60), (1, 5), (0, 6), (1, 70)))
    vectors = draw(hnp.arrays(np.float32, (n, d), elements=SMALL))
    queries = draw(hnp.arrays(np.float32, (q, d), elements=SMALL))
    allowed = draw(st.none() | hnp.arrays(bool, n))
    gone = [draw(st.lists(st.integers(0, max(n - 1, 0)), max_size=9 if n else 0)) for _ in range(q)]
    return vectors, queries, k, allowed, [np.array(rows, dtype=np.int64) for rows in gone]


@settings(max_examples=150, deadline=None)
@given(problems())
def test_rows_and_scores_are_those_of_a_plain_sort(brute, problem):
    vectors, queries, k, allowed, gone = problem
    rows, scores = exact.search(vectors, queries, k, "ip", allowed, gone)
    assert rows.shape == scores.shape == (len(queries), k)
    every = np.ones(len(vectors), bool) if allowed is None else allowed
    for i, query in enumerate(queries):
        expected = brute(vectors, query, k, range(len(vectors)), every, set(gone[i].tolist()))
        found = [(row, score) for row, score in zip(rows[i].tolist(), scores[i].tolist(), strict=True) if row >= 0]
        assert found == expected
        assert np.all(np.isneginf(scores[i, len(expected) :]))
        assert np.all(rows[i, len(expected) :] == -1)


def test_many_titles_and_blocks_agree_with_a_plain_sort(brute, rng, monkeypatch):
    vectors = rng.normal(size=(3000, 12)).astype(np.float32)
    vectors[rng.integers(0, 3000, 900)] = vectors[rng.integers(0, 3000, 900)]
    queries = rng.normal(size=(9, 12)).astype(np.float32)
    queries[3] = 0
    whole = exact.search(vectors, queries, 20, "ip")
    monkeypatch.setattr(exact, "_TILE_CELLS", 1000)
    monkeypatch.setattr(exact, "_PAIRS_PER_BLOCK", 7)
    blocks = exact.search(vectors, queries, 20, "ip")
    assert np.array_equal(whole[0], blocks[0])
    assert np.array_equal(whole[1], blocks[1])
    for i, query in enumerate(queries):
        expected = brute(vectors, query, 20, range(3000), np.ones(3000, bool), set())
        assert list(zip(whole[0][i].tolist(), whole[1][i].tolist(), strict=True)) == expected


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.7, 1.0])
def test_a_filter_is_a_search_among_what_it_allows(rng, share):
    vectors = rng.normal(size=(4000, 8)).astype(np.float32)
    queries = rng.normal(size=(5, 8)).astype(np.float32)
    allowed = rng.random(4000) < share
    rows, scores = exact.search(vectors, queries, 10, "ip", allowed)
    chosen = np.flatnonzero(allowed)
    among, expected = exact.search(vectors[chosen], queries, 10, "ip")
    assert np.array_equal(scores, expected)
    assert np.array_equal(rows[among >= 0], chosen[among[among >= 0]])


def test_cosine_is_the_inner_product_of_unit_vectors_and_zero_stays_zero(rng):
    vectors = rng.normal(size=(40, 6)).astype(np.float32) * 10.0 ** rng.integers(-20, 18, (40, 1))
    vectors[5] = 0
    rows, scores = exact.search(vectors, vectors[:4], 40, "cosine")
    assert np.array_equal(rows[:, 0], np.arange(4))
    assert np.allclose(scores[:, 0], 1, atol=1e-6)
    assert np.all(scores[rows == 5] == 0)
    assert np.all(np.abs(scores) <= 1 + 1e-6)


def test_a_score_depends_on_its_two_vectors_only(rng):
    vectors = np.repeat(rng.normal(size=(1, 33)).astype(np.float32), 500, axis=0)
    rows, scores = exact.search(vectors, rng.normal(size=(3, 33)), 500, "ip")
    assert np.array_equal(rows, np.tile(np.arange(500), (3, 1)))
    assert np.all(scores == scores[:, :1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused_by_position(bad):
    vectors = np.zeros((5, 3))
    vectors[3, 1] = bad
    with pytest.raises(UsageError, match=r"vector 3 is not finite.*column 1"):
        exact.search(vectors, np.zeros((1, 3)), 1, "ip")
    with pytest.raises(UsageError, match=r"query 3 is not finite.*column 1"):
        exact.search(np.zeros((1, 3)), vectors, 1, "ip")


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(MismatchError, match=r"4 dimensions, the index has 3"):
        exact.search(np.zeros((2, 3)), np.zeros((1, 4)), 1, "ip")
    with pytest.raises(UsageError, match="euclidean"):
        exact.search(np.zeros((2, 3)), np.zeros((1, 3)), 1, "euclidean")
    with pytest.raises(UsageError, match="overflow"):
        exact.search(np.full((2, 3), 1e30), np.full((1, 3), 1e30), 1, "ip")
    with pytest.raises(UsageError, match="shape"):
        exact.search(np.zeros(3), np.zeros((1, 3)), 1, "ip")
    with pytest.raises(UsageError, match="numbers"):
        exact.search([["a"]], np.zeros((1, 1)), 1, "ip")


def test_few_queries_of_many_titles_get_what_many_queries_get(rng):
    """FAISS looks for them, and a tie that it left out is found all the same."""
    titles = rng.normal(size=(1 << 15, 4)).astype(np.float32).round(1)  # full of ties
    queries = rng.normal(size=(20, 4)).astype(np.float32).round(1)
    engine = Engine.of(BACKENDS["flat"], BACKENDS["flat"].build(titles))
    gone = [np.arange(i) for i in range(20)]
    allowed = rng.random(len(titles)) < 0.7
    whole = engine.search(queries, 10, Filter(allowed, gone))
    for i in range(20):
        rows, scores = engine.search(queries[[i]], 10, Filter(allowed, gone[i : i + 1]))
        assert np.array_equal(rows[0], whole[0][i])
        assert np.array_equal(scores[0], whole[1][i])
