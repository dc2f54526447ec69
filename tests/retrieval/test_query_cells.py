import faiss
import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex, demand, exact
from retrieval.backends import BACKENDS
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.query_cells import QueryCells
from retrieval.recall import of_scores
from stores.errors import UsageError

TITLES, DIM = 4000, 12
CELLS = BACKENDS["query_cells"]


@pytest.fixture(scope="module")
def data():
    """Titles around genres, and members who like a few titles each: 3000 to learn from, 600 others."""
    rng = np.random.default_rng(4)
    energy = np.linspace(1, 0.2, DIM)
    titles = rng.normal(size=(30, DIM))[rng.integers(0, 30, TITLES)] + 0.5 * rng.normal(size=(TITLES, DIM))
    titles *= energy * np.exp(0.3 * rng.normal(size=(TITLES, 1)))
    members = titles[rng.integers(0, TITLES, (3600, 4))].mean(axis=1) + 0.1 * rng.normal(size=(3600, DIM)) * energy
    return titles.astype(np.float32), members[:3000].astype(np.float32), members[3000:].astype(np.float32)


@pytest.fixture(scope="module")
def built(data, guide_of):
    return CELLS.build(data[0], guide_of(data[0], data[1]))


def lists(index):
    base = faiss.downcast_index(index.base_index)
    inverted = base.invlists
    found = []
    for cell in range(base.nlist):
        count = inverted.list_size(cell)
        found.append(faiss.rev_swig_ptr(inverted.get_ids(cell), count).copy() if count else np.zeros(0, np.int64))
    return found


def test_members_who_taught_nothing_find_what_they_should_by_reading_a_part(data, built):
    rows = CELLS.search(built, data[2], 10, 2, None)
    scores = np.einsum("qd,qkd->qk", data[2], data[0][rows])
    expected = exact.search(data[0], data[2], 10, "ip")[1]
    assert of_scores(scores + 1e-4, expected).value >= 0.985
    assert np.mean([len(some) for some in lists(built)]) < 0.5 * TITLES


def test_every_title_can_be_found_and_none_stands_twice_in_a_list(built):
    every = lists(built)
    assert set(np.concatenate(every).tolist()) == set(range(TITLES))
    assert all(len(np.unique(some)) == len(some) for some in every)
    assert built.ntotal == TITLES


def test_plain_faiss_needs_no_code_of_ours(data, built):
    CELLS.set_effort(built, 2)
    plain = faiss.deserialize_index(faiss.serialize_index(built))
    scores, rows = plain.search(data[2], 10)
    assert np.allclose(scores, np.einsum("qd,qkd->qk", data[2], data[0][rows]), atol=1e-4)
    assert np.mean(np.sort(rows) == np.sort(CELLS.search(built, data[2], 10, 2, None))) > 0.999


def test_the_length_of_a_query_changes_nothing(data, built):
    for scale in (1e-3, 1e3):
        assert np.array_equal(
            CELLS.search(built, scale * data[2], 10, 2, None), CELLS.search(built, data[2], 10, 2, None)
        )


def test_a_filter_that_a_list_cannot_answer_is_answered_exactly(data, built):
    engine = Engine.of(CELLS, built, 2)
    far = np.zeros(TITLES, bool)
    far[np.argsort(data[0] @ data[2][0])[:1500]] = True  # the worst for the first member: hardly any in its list
    rows, scores = Engine(CELLS, built, 2, engine.titles, filter_from=0.0).search(data[2][:1], 50, Filter(far))
    expected = exact.search(data[0], data[2][:1], 50, "ip", far)
    assert np.array_equal(rows, expected[0])
    assert np.array_equal(scores, expected[1])


def test_it_learns_from_members_or_not_at_all(data):
    with pytest.raises(UsageError, match="learns from members"):
        QueryCells().build(data[0])


def test_lists_hold_more_of_what_is_wanted_than_the_best_of_their_centres(data, guide_of):
    """The point of z: lists as long, cut by the mean score alone, lose more of what members want."""
    learned = demand.Demand.of(guide_of(data[0], data[1]), 16)
    cell = learned.cell(data[2])
    best = exact.search(data[0], data[2], 10, "ip")[0]
    chosen = learned.wanted(data[0], -3.0)
    kept = np.mean([np.isin(best[i], chosen[cell[i]]).mean() for i in range(len(best))])
    plain = learned.centres @ data[0].T
    mean_only = [np.argsort(-plain[c])[: len(some)] for c, some in enumerate(chosen)]
    kept_plain = np.mean([np.isin(best[i], mean_only[cell[i]]).mean() for i in range(len(best))])
    assert kept > kept_plain


@pytest.mark.parametrize("k", [10, 20, 60])
def test_beyond_its_reach_search_is_exact(data, built, k):
    engine = Engine(CELLS, built, 2, Engine.of(CELLS, built).titles, reach=15)
    found = engine.search(data[2], k, Filter())
    if k > 15:
        expected = exact.search(data[0], data[2], k, "ip")
        assert np.array_equal(found[0], expected[0])
    gone = [np.arange(10)] * len(data[2])  # ten to leave out and ten to return are more than fifteen
    expected = exact.search(data[0], data[2], 10, "ip", None, gone)
    assert np.array_equal(engine.search(data[2], 10, Filter(None, gone))[0], expected[0])


def test_cosine_is_learned_too(data):
    index = TitleIndex.build(
        np.arange(TITLES), *data[:2], IndexConfig(metric="cosine", exact_below=0, backends=("query_cells",))
    )
    assert index.measure(data[2], 10).value >= 0.97
