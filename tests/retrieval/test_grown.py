import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex
from stores.errors import MismatchError, UsageError


@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_a_grown_index_answers_as_one_built_of_everything(rng, metric):
    titles, queries = rng.normal(size=(400, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    titles[350] = titles[10]
    ids = rng.permutation(400)
    config = IndexConfig(metric=metric)
    whole = TitleIndex.build(ids, titles, config=config)
    grown = TitleIndex.build(ids[:300], titles[:300], config=config).with_added(ids[300:350], titles[300:350])
    grown = grown.with_added(ids[350:], titles[350:], queries)
    allowed, gone = rng.random(400) < 0.4, [rng.choice(ids, 30) for _ in queries]
    for k in (1, 12, 500):
        for wanted in ({}, {"allowed": allowed, "exclude": gone}, {"exclude": gone}):
            for here, there in zip(grown.search(queries, k, **wanted), whole.search(queries, k, **wanted), strict=True):
                assert np.array_equal(here, there)
    assert grown.recall.value == 1.0
    assert len(grown) == 400


def test_recall_with_new_titles_is_measured_on_an_approximate_index_too(rng):
    titles, queries = rng.normal(size=(3000, 8)).astype(np.float32), rng.normal(size=(400, 8)).astype(np.float32)
    index = TitleIndex.build(np.arange(3000), titles, queries, IndexConfig(exact_below=100))
    grown = index.with_added(np.arange(3000, 3100), 1.5 * titles[:100], queries)
    assert grown.recall.value >= index.measure(queries, 10).value - 1e-9
    assert set(grown.search(titles[:50], 1)[0].ravel().tolist()) & set(range(3000, 3100))


def test_what_cannot_be_added_is_refused(tmp_path, rng):
    index = TitleIndex.build([1, 2], rng.normal(size=(2, 3)))
    with pytest.raises(UsageError, match="twice"):
        index.with_added([2], np.zeros((1, 3)))
    with pytest.raises(MismatchError, match="4 dimensions"):
        index.with_added([3], np.zeros((1, 4)))
    with pytest.raises(MismatchError, match="2 ids for 1 vectors"):
        index.with_added([3, 4], np.zeros((1, 3)))
    with pytest.raises(UsageError, match="cannot be saved"):
        index.with_added([3], np.zeros((1, 3))).save(tmp_path)
