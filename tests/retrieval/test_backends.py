"""One suite over all index types: what comes back is exact in its scores, and filters hold."""

import faiss
import numpy as np
import pytest

from retrieval import exact
from retrieval.backends import BACKENDS, TrainQueries
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.recall import recall_of_scores

TITLES, DIM = 3000, 16


@pytest.fixture(scope="module")
def data():
    """Titles and member queries of another distribution than the titles."""
    rng = np.random.default_rng(1)
    taste = rng.normal(size=(6, DIM)) * np.linspace(2, 0.2, DIM)
    titles = rng.normal(size=(TITLES, DIM)) * np.linspace(2, 0.2, DIM)
    members = rng.normal(size=(4100, 6)) @ taste + 0.2 * rng.normal(size=(4100, DIM))
    return titles.astype(np.float32), members[:100].astype(np.float32), members[100:].astype(np.float32)


@pytest.fixture(scope="module", params=list(BACKENDS))
def engine(request, data):
    backend = BACKENDS[request.param]
    effort = backend.search_efforts[-1] if backend.search_efforts else 0
    return Engine.of(backend, backend.build(data[0], TrainQueries(data[2])), effort)


def test_it_holds_the_vectors_in_row_order(engine, data):
    assert np.array_equal(engine.titles.vectors, data[0])
    assert type(engine.index).__name__ == engine.backend.kind


def test_scores_are_exact_and_in_order(engine, data):
    rows, scores = engine.search(data[1], 10, Filter())
    true = np.einsum("qd,qkd->qk", data[1].astype(np.float64), data[0].astype(np.float64)[rows])
    assert np.array_equal(scores, true.astype(np.float32))
    assert np.all(scores[:, 1:] <= scores[:, :-1])
    assert all(len(set(row)) == 10 for row in rows.tolist())


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_ties_go_by_rank(backend, rng):
    titles = rng.normal(size=(400, 4)).astype(np.float32)[rng.integers(0, 400, 3000)]  # each seven or eight times
    members = rng.normal(size=(2100, 4)).astype(np.float32)
    rank = rng.permutation(3000)
    effort = backend.search_efforts[-1] if backend.search_efforts else 0
    engine = Engine.of(backend, backend.build(titles, TrainQueries(members[100:])), effort, rank)
    rows, scores = engine.search(members[:100], 40, Filter())
    tied = (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] >= 0)
    assert tied.any(axis=1).all()
    assert np.all(rank[rows[:, 1:]][tied] > rank[rows[:, :-1]][tied])


def test_recall_at_the_highest_effort(engine, data):
    expected = exact.search(data[0], data[1], 10, "ip")
    found = engine.search(data[1], 10, Filter())
    recall = recall_of_scores(found[1], expected[1])
    assert recall.value >= 0.99
    if not engine.backend.search_efforts:
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_filters_hold_and_k_come_back_whenever_k_exist(engine, data, share, k):
    rng = np.random.default_rng(int(share * 1000) + k)
    allowed = rng.random(TITLES) < share
    best = exact.search(data[0], data[1], 30, "ip")[0]
    gone = [best[i, : i % 30] if i % 3 else np.zeros(0, np.int64) for i in range(len(best))]
    rows, scores = engine.search(data[1], k, Filter(allowed, gone))
    expected = exact.search(data[0], data[1], k, "ip", allowed, gone)
    assert np.array_equal(rows >= 0, expected[0] >= 0)
    assert np.array_equal(np.isfinite(scores), expected[0] >= 0)
    for row, out in zip(rows, gone, strict=True):
        there = row[row >= 0]
        assert allowed[there].all()
        assert not set(there.tolist()) & set(out.tolist())
    recall = recall_of_scores(scores, expected[1])
    assert recall is None or recall.value >= 0.97


def test_k_beyond_what_is_left_gives_all_that_is_left(engine, data):
    allowed = np.zeros(TITLES, bool)
    allowed[[5, 77, 1234]] = True
    rows, scores = engine.search(data[1][:3], 8, Filter(allowed, [np.array([77])] * 3))
    assert [set(row.tolist()) for row in rows] == [{5, 1234, -1}] * 3
    assert np.all(np.isneginf(scores[:, 2:]))
    rows, _ = engine.search(data[1][:2], TITLES + 5, Filter())
    assert all(sorted(row.tolist()) == [-1] * 5 + list(range(TITLES)) for row in rows)


def test_no_query_gives_no_row(engine, data):
    rows, scores = engine.search(data[1][:0], 4, Filter())
    assert rows.shape == scores.shape == (0, 4)


def test_plain_faiss_gets_the_chosen_effort_from_the_file(engine, data):
    engine.backend.set_search_effort(engine.index, engine.search_effort)
    plain = faiss.deserialize_index(faiss.serialize_index(engine.index))
    scores, _ = plain.search(data[1], 10)
    expected = exact.search(data[0], data[1], 10, "ip")[1]
    assert (scores >= expected[:, -1:] - 1e-3).mean() >= 0.97


@pytest.mark.parametrize(("name", "count"), [("flat", 0), ("flat", 1), *((name, 50) for name in BACKENDS)])
def test_tiny_catalogues(name, count, rng):
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    backend = BACKENDS[name]
    guide = TrainQueries(rng.normal(size=(9, 4)).astype(np.float32))
    engine = Engine.of(backend, backend.build(vectors, guide), 64)
    rows, scores = engine.search(vectors[:1] if count else np.zeros((1, 4), np.float32), 3, Filter())
    assert (rows >= 0).sum() == min(3, count)
    assert np.isfinite(scores).sum() == min(3, count)
