from typing import Any

import numpy as np
import pytest

from alignment import metrics as f


def test_top_overlap_is_that_of_sets() -> None:
    scores = np.array([[5.0, 4, 3, 2, 1]])
    assert f.topk_overlap(scores, scores, 2) == 1
    assert f.topk_overlap(scores, scores[:, ::-1], 2) == 0
    assert f.topk_overlap(scores, np.array([[5.0, 0, 4, 0, 0]]), 2) == 0.5
    assert f.topk_overlap(scores, -scores, 10) == 1


def test_identification_counts_pairs_that_are_told_apart(world: Any) -> None:
    y = world.titles
    rng = np.random.default_rng(0)
    assert f.identification_auc(y * 3, y) == 1
    assert f.identification_auc(y[rng.permutation(len(y))], y) == pytest.approx(0.5, abs=0.05)
    assert f.identification_auc(np.ones((20, 3)), np.ones((20, 3))) == pytest.approx(0.5)


def test_bound_holds_for_the_best_rotation(world: Any) -> None:
    rng = np.random.default_rng(1)
    y = world.titles
    for noise in (0.01, 0.3, 3.0):
        x = y + noise * rng.normal(size=y.shape)
        U, _, Vt = np.linalg.svd(x.T @ y)
        assert f.procrustes_bound_ratio(x @ U @ Vt, y) <= 1
    assert f.procrustes_bound_ratio(y, y) == 0


def test_constant_and_zero_rows_are_harmless() -> None:
    zero = np.zeros((5, 3))
    assert f.row_cosines(zero, zero).tolist() == [0] * 5
    assert f.energy_weighted_correlation(zero, zero) == 0
    assert f.min_singular_value_ratio(zero, zero) == 0
    assert f.norm_ratio(zero, zero) == np.inf
    assert f.score_correlation(zero, zero) == 0


def test_correlation_is_weighted_by_the_energy_of_the_reference() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(5000, 2)) * [10, 0.1]
    x = np.column_stack([y[:, 0], rng.normal(size=5000)])
    assert f.energy_weighted_correlation(x, y) > 0.999
