import threading

import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex
from stores.errors import MismatchError, UsageError


@pytest.fixture
def titles(rng):
    return rng.normal(size=(500, 8)).astype(np.float32)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_ids_and_scores_are_those_of_brute_force(titles, rng, brute, metric, text):
    titles[100:200] = titles[:100]
    number = rng.permutation(500)
    ids = [f"t{i}" for i in number] if text else (number * 3).tolist()
    queries = rng.normal(size=(20, 8)).astype(np.float32)
    index = TitleIndex.build(ids, titles, queries, IndexConfig(metric=metric))
    allowed, gone = rng.random(500) < 0.4, [set(rng.choice(ids, 30).tolist()) for _ in queries]
    found, scores = index.search(queries, 12, exclude=[list(some) for some in gone], allowed=allowed)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True) if metric == "cosine" else queries
    for i in range(20):
        expected = brute(index.vectors, asked[i].astype(np.float32), 12, ids, allowed, gone[i])
        assert found[i].tolist() == [value for value, _ in expected]
        assert np.allclose(scores[i], [score for _, score in expected], rtol=1e-5, atol=1e-6)
    assert found.dtype == (object if text else np.int64)


def test_an_exact_index_measures_its_recall(titles, rng):
    index = TitleIndex.build(np.arange(500), titles, rng.normal(size=(300, 8)))
    assert index.recall.value == 1.0
    assert index.recall.low < 1.0
    assert (index.recall.k, index.recall.queries) == (10, 300)
    assert [trial.backend for trial in index.trials] == ["flat"]
    assert TitleIndex.build(np.arange(500), titles).recall is None


def test_nothing_left_is_minus_one_or_none(titles):
    for ids, none in ((np.arange(500), -1), ([f"t{i:03}" for i in range(500)], None)):
        index = TitleIndex.build(ids, titles)
        found, scores = index.search(titles[:2], 3, allowed=np.zeros(500, bool))
        assert found.tolist() == [[none] * 3] * 2
        assert np.all(np.isneginf(scores))
        found, scores = index.search(titles[:1], 3, exclude=[ids[2:]])
        assert found[0].tolist()[2] == none
        assert set(found[0].tolist()[:2]) == set(ids[:2])


@pytest.mark.parametrize("count", [0, 1])
def test_no_title_or_one(count):
    index = TitleIndex.build(np.arange(count) + 5, np.ones((count, 3)), np.ones((4, 3)))
    found, scores = index.search(np.ones((2, 3)), 2)
    assert found.tolist() == [[5, -1][:count] + [-1] * (2 - count)] * 2
    assert np.isfinite(scores).sum() == 2 * count
    assert index.search(np.zeros((0, 3)), 2)[0].shape == (0, 2)


def test_zero_vectors_have_score_zero_and_are_ordered_by_id():
    index = TitleIndex.build([9, 4, 7], np.zeros((3, 2)), config=IndexConfig(metric="cosine"))
    found, scores = index.search(np.ones((1, 2)), 3)
    assert found.tolist() == [[4, 7, 9]]
    assert scores.tolist() == [[0, 0, 0]]


def test_unusable_input_is_refused_by_name(titles):
    index = TitleIndex.build(np.arange(500), titles)
    with pytest.raises(MismatchError, match=r"7 dimensions, the index has 8"):
        index.search(np.zeros((1, 7)), 1)
    with pytest.raises(MismatchError, match="3 entries, the index 500"):
        index.search(titles[:1], 1, allowed=np.ones(3, bool))
    with pytest.raises(UsageError, match="the mask is int64"):
        index.search(titles[:1], 1, allowed=np.ones(500, np.int64))
    with pytest.raises(UsageError, match="query 0 is not finite"):
        index.search(np.full((1, 8), np.nan), 1)
    with pytest.raises(UsageError, match="shape"):
        index.search(titles[0], 1)
    for k in (0, -1, 2.5, True):
        with pytest.raises(UsageError, match="k is"):
            index.search(titles[:1], k)
    with pytest.raises(MismatchError, match="3 ids for 500 vectors"):
        TitleIndex.build([1, 2, 3], titles)
    with pytest.raises(UsageError, match="twice"):
        TitleIndex.build([1, 1], titles[:2])
    with pytest.raises(MismatchError, match="7 dimensions"):
        TitleIndex.build([1, 2], titles[:2], np.zeros((1, 7)))


def test_threads_get_what_one_gets(titles, rng):
    queries = rng.normal(size=(40, 8)).astype(np.float32)
    index = TitleIndex.build([f"t{i}" for i in rng.permutation(500)], titles)
    expected = index.search(queries, 5, exclude=[["t3"]] * 40)[0].tolist()
    wrong: list[int] = []

    def ask(number: int) -> None:
        for _ in range(20):
            if index.search(queries, 5, exclude=[["t3"]] * 40)[0].tolist() != expected:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
