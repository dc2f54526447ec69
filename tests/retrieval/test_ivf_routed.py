import faiss
import numpy as np
import pytest

from retrieval import exact
from retrieval.backends import BACKENDS, IvfRouted, TrainQueries
from retrieval.recall import recall_of_scores
from retrieval.vectors import unit
from stores.errors import UsageError

TITLES, DIM = 4000, 12
ROUTED, PLAIN = BACKENDS["ivf_routed"], BACKENDS["ivf_flat"]


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
def built(data):
    return ROUTED.build(data[0], TrainQueries(data[1]))


def scores_of(data, rows):
    scores = np.einsum("qd,qkd->qk", data[2], data[0][rows])
    return -np.sort(-np.where(rows >= 0, scores, -np.inf), axis=1)


def recall(data, rows):
    expected = exact.search(data[0], data[2], 10, "ip")[1]
    return recall_of_scores(np.einsum("qd,qkd->qk", data[2], data[0][rows]) + 1e-4, expected).value


def test_members_teach_better_than_centres(data, built):
    """The point of it: of as many cells, those that members point to hold more of what members want."""
    centres = faiss.IndexFlatIP(DIM)
    centres.add(unit(np.stack([data[0][some].mean(axis=0) if len(some) else np.zeros(DIM) for some in cells(built)])))
    learned, built.quantizer = built.quantizer, centres
    by_centres = recall(data, PLAIN.search(built, data[2], 10, 8, None))
    built.quantizer = learned
    assert recall(data, PLAIN.search(built, data[2], 10, 8, None)) > by_centres


def cells(index):
    lists = index.invlists
    return [faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy() for i in range(index.nlist)]


def test_each_title_is_in_one_cell(built):
    assert np.array_equal(np.sort(np.concatenate(cells(built))), np.arange(TITLES))


@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("share", [None, 0.3])
@pytest.mark.parametrize("effort", [2, 16, 500])
def test_a_batch_finds_all_that_one_query_after_the_other_finds(data, built, k, share, effort):
    allowed = None if share is None else np.random.default_rng(k).random(TITLES) < share
    whole = ROUTED.search(built, data[2], k, effort, allowed)
    single = PLAIN.search(built, data[2], k, effort, allowed)
    assert (scores_of(data, whole) >= scores_of(data, single) - 1e-4).all()
    assert allowed is None or allowed[whole[whole >= 0]].all()
    assert all(len(np.unique(row[row >= 0])) == (row >= 0).sum() for row in whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(data, built, threads):
    before = faiss.omp_get_max_threads()
    expected = ROUTED.search(built, data[2], 10, 16, None)
    faiss.omp_set_num_threads(threads)
    try:
        assert np.array_equal(ROUTED.search(built, data[2], 10, 16, None), expected)
    finally:
        faiss.omp_set_num_threads(before)


def test_the_length_of_a_query_changes_nothing(data, built):
    found = ROUTED.search(built, data[2], 10, 8, None)
    assert np.array_equal(ROUTED.search(built, 1000 * data[2], 10, 8, None), found)


def test_it_learns_from_members_or_not_at_all(data):
    with pytest.raises(UsageError, match="learns from members"):
        IvfRouted().build(data[0])
