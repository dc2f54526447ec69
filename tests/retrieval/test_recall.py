import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.recall import recall_of_scores, recall_of_slice, wilson_interval


def test_recall_counts_what_reaches_the_kth_score():
    expected = np.array([[5.0, 4.0], [3.0, 3.0]], np.float32)
    found = np.array([[5.0, 1.0], [3.0, 3.0]], np.float32)
    assert recall_of_scores(found, expected).value == 0.75
    assert recall_of_scores(expected, expected).value == 1.0


def test_fewer_titles_than_k_are_all_there_is():
    expected = np.array([[5.0, -np.inf], [-np.inf, -np.inf]], np.float32)
    recall = recall_of_scores(expected, expected)
    assert (recall.value, recall.queries) == (1.0, 1)
    assert recall_of_scores(expected[1:], expected[1:]) is None
    assert recall_of_scores(expected[:0], expected[:0]) is None


@given(st.lists(st.integers(0, 10), min_size=1, max_size=60))
def test_the_interval_holds_the_mean_and_lies_in_zero_to_one(hits):
    shares = np.array(hits) / 10
    low, high = wilson_interval(shares, 10)
    assert 0 <= low <= shares.mean() <= high <= 1


@pytest.mark.parametrize("spread", [False, True])
def test_the_interval_covers_the_truth_in_19_of_20_trials(spread):
    rng = np.random.default_rng(3)
    truth, covered = 0.95, 0
    for _ in range(400):
        chance = rng.beta(9.5, 0.5, 300) if spread else np.full(300, truth)
        low, high = wilson_interval(rng.binomial(10, chance) / 10, 10)
        covered += low <= truth <= high
    assert covered >= 0.93 * 400


def test_perfect_on_few_queries_is_not_certain():
    assert wilson_interval(np.ones(20), 10)[0] < 0.9
    assert wilson_interval(np.ones(2000), 10)[0] > 0.99


def test_a_slice_counts_only_its_own_titles():
    rows = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    expected = np.array([[9, 8, 7], [9, 8, 7], [9, 8, 7]], np.float32)
    found = np.array([[9, 7, 1], [9, 8, 7], [9, 8, 7]], np.float32)  # the first query misses title 1
    kind = np.isin(np.arange(9), [1, 2, 5])
    recall = recall_of_slice(found, rows, expected, kind)
    assert (recall.queries, recall.value) == (2, 0.75)
    assert recall_of_slice(found, rows, expected, np.zeros(9, bool)) is None
    assert recall_of_slice(found, rows, expected, np.isin(np.arange(9), [1])).value == 0.0
