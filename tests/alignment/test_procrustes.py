from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignment.procrustes import procrustes, robust_procrustes, unit_residuals, weighted_median


@pytest.mark.parametrize("reflected", [False, True])
def test_a_planted_rotation_comes_back(world: Any, rotation: Callable[..., np.ndarray], reflected: bool) -> None:
    planted = rotation(12, np.random.default_rng(3))
    if (np.linalg.det(planted) < 0) != reflected:
        planted[0] *= -1
    x = world.titles
    np.testing.assert_allclose(procrustes(x, x @ planted, np.ones(len(x)))[0], planted, atol=1e-12)
    found = robust_procrustes(x, x @ planted, np.ones(len(x)))
    np.testing.assert_allclose(found.Q, planted, atol=1e-12)
    assert found.residuals.max() < 1e-12
    assert found.undetermined.shape == (12, 0)


def test_no_rotation_near_it_is_better(world: Any, rotation: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(4)
    y = world.titles + 0.3 * rng.normal(size=world.titles.shape)
    weights = rng.random(len(y))
    Q, _, _ = procrustes(world.titles, y, weights)
    best = weights @ ((world.titles @ Q - y) ** 2).sum(axis=1)
    for size in (1e-3, 1e-1):
        turn = np.linalg.qr(np.eye(12) + size * rng.normal(size=(12, 12)))[0]
        turn *= np.sign(np.diag(turn))
        assert weights @ ((world.titles @ Q @ turn - y) ** 2).sum(axis=1) > best


def test_movers_at_three_times_the_norm_do_not_turn_the_rest(world: Any) -> None:
    rng = np.random.default_rng(5)
    x, y = world.titles, world.titles.copy()
    movers = rng.random(len(x)) < 0.3
    direction = rng.normal(size=12)
    y[movers] = 3 * np.linalg.norm(y[movers], axis=1, keepdims=True) * direction / np.linalg.norm(direction)
    weights = np.ones(len(x))
    plain, _, _ = procrustes(x, y, weights)
    robust = robust_procrustes(x, y, weights)
    clean = unit_residuals(x[~movers] @ plain, y[~movers])
    assert np.median(clean) > 0.1
    assert unit_residuals(x[~movers] @ robust.Q, y[~movers]).max() < 0.05
    assert robust.residuals[movers].min() > robust.residuals[~movers].max()


def test_weight_two_is_twice_and_zero_is_absent(world: Any) -> None:
    rng = np.random.default_rng(6)
    x, y = world.titles, world.titles + 0.2 * rng.normal(size=world.titles.shape)
    weights = rng.integers(0, 3, len(x)).astype(float)
    Q, _, _ = procrustes(x, y, weights)
    copies = np.repeat(np.arange(len(x)), weights.astype(int))
    np.testing.assert_allclose(procrustes(x[copies], y[copies], np.ones(len(copies)))[0], Q, atol=1e-10)
    spoiled = np.where(weights[:, None] > 0, y, 1e6 * rng.normal(size=y.shape))
    one, two = (robust_procrustes(x, rows, weights) for rows in (y, spoiled))
    assert one.Q.tobytes() == two.Q.tobytes()


def test_row_order_does_not_matter(world: Any) -> None:
    rng = np.random.default_rng(7)
    y = world.titles + 0.2 * rng.normal(size=world.titles.shape)
    order = rng.permutation(len(y))
    weights = rng.random(len(y))
    one = robust_procrustes(world.titles, y, weights)
    two = robust_procrustes(world.titles[order], y[order], weights[order])
    np.testing.assert_allclose(one.Q, two.Q, atol=1e-7)


def test_directions_without_anchors_are_reported_as_undetermined(world: Any) -> None:
    y = world.titles.copy()
    y[:, 0] = 0
    found = robust_procrustes(world.titles, y, np.ones(len(y)))
    assert found.undetermined.shape == (12, 1)


def test_the_weighted_median_halves_the_weight() -> None:
    values = np.array([0.4, 0.1, 0.3, 0.2, 0.0])
    assert weighted_median(values, np.array([1.0, 1, 1, 1, 0])) == 0.2
    assert weighted_median(values, np.array([1.0, 4, 1, 1, 0])) == 0.1
    assert weighted_median(values, np.zeros(5)) == 0


def test_noise_is_averaged_over_all_anchors(world: Any) -> None:
    """With noise alone nobody moved, and the rotation is as good as that of plain Procrustes, not of half the rows."""
    errors = {"robust": 0.0, "plain": 0.0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = world.titles + 0.5 * world.titles.std() * rng.normal(size=world.titles.shape)
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (world.titles, y))
        ones = np.ones(len(x))
        errors["robust"] += float(np.linalg.norm(robust_procrustes(x, y, ones).Q - np.eye(12)))
        errors["plain"] += float(np.linalg.norm(procrustes(x, y, ones)[0] - np.eye(12)))
    assert errors["robust"] <= 1.02 * errors["plain"]


def test_a_zero_row_has_no_residual(world: Any) -> None:
    x = world.titles.copy()
    x[4] = 0
    assert np.isnan(robust_procrustes(x, world.titles, np.ones(len(x))).residuals[4])
