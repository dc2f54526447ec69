from itertools import pairwise

import numpy as np
import pytest

from validation import drift
from validation.config import DriftThresholds
from validation.release_pairs import Pair, Titles, nearest

RNG = np.random.default_rng(5)
LIMITS = DriftThresholds()


def titles(vectors):
    return Titles(
        list(range(len(vectors))), [f"t{i}" for i in range(len(vectors))], vectors, np.arange(len(vectors)) * 1.0
    )


def both(now, before):
    return Pair(titles(now), titles(before), np.ones((3, now.shape[1])), np.ones((3, now.shape[1])))


def test_equal_releases_do_not_drift():
    x = RNG.normal(size=(120, 6))
    found = drift.figures(both(x, x.copy()), LIMITS)
    assert found["moved_share"] == 0
    assert found["neighbour_jaccard"] == 1
    assert found["neighbours_beyond_chance"] == 1
    assert found["score_psi"] == 0
    assert found["popularity_drop"] == 0
    assert found["swapped"] == []


def test_shuffled_titles_keep_no_neighbours_beyond_chance():
    x = RNG.normal(size=(400, 6))
    found = drift.figures(both(RNG.permutation(x), x), LIMITS)
    assert abs(found["neighbours_beyond_chance"]) < 0.05


def test_a_swap_is_named_and_a_move_is_not():
    x = RNG.normal(size=(100, 16))
    swapped, moved = x.copy(), x.copy()
    swapped[[2, 7]], moved[2] = x[[7, 2]], -x[2]
    assert drift.figures(both(swapped, x), LIMITS)["swapped"] == ["t2 ↔ t7"]
    assert drift.figures(both(moved, x), LIMITS)["swapped"] == []


def test_psi_is_zero_for_equal_and_positive_for_shifted_values():
    x = RNG.normal(size=20_000)
    assert drift.psi(x, x) == 0
    assert drift.psi(RNG.normal(size=20_000), x) < 0.01
    assert drift.psi(x + 1, x) > 0.25


def test_psi_of_norm_histograms_sees_a_factor():
    counts = {"first": 2500, "counts": [100] * 60}
    assert drift.norms_psi(counts, counts) == 0
    assert drift.norms_psi({**counts, "first": 2540}, counts) > 0.25


def test_norms_of_few_titles_do_not_shift_by_chance():
    rng = np.random.default_rng(5)
    draws = [{"first": 2500, "counts": np.bincount(rng.integers(0, 60, 70), minlength=60).tolist()} for _ in range(300)]
    found = [drift.norms_psi(now, before) for now, before in pairwise(draws)]
    assert np.mean(np.array(found) > LIMITS.max_norm_psi) < 0.01
    assert drift.norms_psi({**draws[0], "first": 2560}, draws[0]) > LIMITS.max_norm_psi


@pytest.mark.parametrize("ties", [1, 3])
def test_spearman_equals_pearson_of_mean_ranks(ties):
    x, y = RNG.integers(0, 100 // ties, 300) * 1.0, RNG.normal(size=300)
    assert drift.spearman(x, 2 * x + 1) == pytest.approx(1)
    assert drift.spearman(x, -(x**3)) == pytest.approx(-1)
    assert abs(drift.spearman(x, y)) < 0.2
    assert drift.spearman(np.ones(5), np.arange(5.0)) == 0


def test_nearest_is_the_exact_search():
    x = RNG.normal(size=(60, 5))
    cosine = (x @ x.T) / np.outer(*[np.linalg.norm(x, axis=1)] * 2)
    np.fill_diagonal(cosine, -np.inf)
    np.testing.assert_array_equal(nearest(x, np.arange(60), 4), np.argsort(-cosine, axis=1)[:, :4])
