import numpy as np

from retrieval import TitleIndex


def test_no_two_answers_are_alike_and_the_best_of_each_stays(rng):
    apart = rng.normal(size=(40, 16)).astype(np.float32)
    titles = np.concatenate([apart, apart * 1.01, apart * 0.5])
    queries = rng.normal(size=(9, 16)).astype(np.float32)
    index = TitleIndex.build(np.arange(120), titles)
    found, scores = index.search(queries, 10, dedup_threshold=0.999)
    directions = titles / np.linalg.norm(titles, axis=1, keepdims=True)
    whole = index.search(queries, 120)[0]
    for row, every in zip(found, whole, strict=True):
        near = directions[row] @ directions[row].T - np.eye(10)
        assert near.max() < 0.999
        first = list(dict.fromkeys(every % 40))[:10]  # which of the forty come first in the plain order
        assert (row % 40).tolist() == first
    assert np.all(scores[:, 1:] <= scores[:, :-1])


def test_fewer_than_k_where_all_else_is_alike():
    index = TitleIndex.build([5, 6, 7], [[1, 0], [2, 0], [0, 1]])
    found, scores = index.search([[1, 0.1]], 3, dedup_threshold=0.9)
    assert found.tolist() == [[6, 7, -1]]
    assert np.isneginf(scores[0, 2])
