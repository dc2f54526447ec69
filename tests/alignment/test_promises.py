"""What consumers of a space are promised over many models: no drift, no refit, one width."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alignment import AlignmentConfig, AlignmentTransform, Anchors, Gram, fit


def grams(world: Any) -> tuple[Gram, Gram]:
    return Gram.of(world.members), Gram.of(world.titles)


def opened(world: Any) -> AlignmentTransform:
    """The transform of the release that opens the space."""
    return fit(*grams(world))


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


# --- 8: many retrains


def test_thirty_retrains_do_not_drift_from_the_epoch(world: Any) -> None:
    space = opened(world)
    epoch = space.titles(world.titles)
    yesterday, gauge = epoch, np.eye(12)
    drift: dict[str, list[float]] = {"epoch": [], "yesterday": []}
    for night in range(30):
        noisy = world.retrained(night, noise=0.1, condition=3)
        gauge = gauge @ np.linalg.qr(np.random.default_rng(night).normal(size=(12, 12)))[0] * np.linspace(1, 1.1, 12)
        new = type(world)(noisy.members @ np.linalg.inv(gauge).T, noisy.titles @ gauge)
        aligned = {
            name: fit(*grams(new), Anchors(new.titles, reference)).titles(new.titles)
            for name, reference in (("epoch", epoch), ("yesterday", yesterday))
        }
        yesterday = aligned["yesterday"]
        for name, titles in aligned.items():
            C = titles.T @ epoch
            U, _, Vt = np.linalg.svd(C)
            drift[name].append(float(np.linalg.norm(U @ Vt - np.eye(12))))
    assert np.mean(drift["epoch"][-10:]) < 1.3 * np.mean(drift["epoch"][:10])
    assert max(drift["epoch"]) < 0.2
    assert np.mean(drift["yesterday"][-10:]) > 2 * np.mean(drift["epoch"][-10:])


# --- 9: a consumer


def test_a_downstream_model_goes_on_without_refitting(another_world: Callable[..., Any]) -> None:
    world = another_world(members=3000, titles=400, dim=12, seed=8)
    rng = np.random.default_rng(3)
    truth = rng.normal(size=12) / world.members.std(axis=0)
    label = world.members @ truth
    label = label + 0.5 * label.std() * rng.normal(size=len(label))
    space = opened(world)
    x = space.members(world.members)
    coefficients = np.linalg.solve(x.T @ x + np.eye(12), x.T @ (label - label.mean()))

    def r2(features: np.ndarray) -> float:
        left = label - label.mean() - features @ coefficients
        return float(1 - (left**2).sum() / ((label - label.mean()) ** 2).sum())

    new = world.retrained(9, noise=0.05)
    t = fit(*grams(new), Anchors(new.titles, space.titles(world.titles)))
    assert r2(t.members(new.members)) > 0.98 * r2(x) > 0.7
    assert r2(new.members) <= 0


# --- 10: widths


def test_the_published_width_stays_while_models_change_theirs(another_world: Callable[..., Any]) -> None:
    world = another_world(titles=500, dim=20)
    space = opened(world)
    reference = space.titles(world.titles)
    members = space.members(world.members)
    for night, width in enumerate((20, 16, 12, 20)):
        narrower = type(world)(members[:, :width], reference[:, :width]).retrained(night)
        t = fit(*grams(narrower), Anchors(narrower.titles, reference))
        aligned = t.members(narrower.members), t.titles(narrower.titles)
        assert aligned[0].shape[1] == aligned[1].shape[1] == t.width == 20
        assert not t.lossy
        np.testing.assert_allclose(
            aligned[0] @ aligned[1].T, narrower.scores, atol=1e-12 * np.abs(narrower.scores).max()
        )
        assert np.median(cosines(aligned[1][:, :width], reference[:, :width])) > 0.999
        if width == 20:
            np.testing.assert_allclose(aligned[1], reference, atol=1e-9)


def test_a_model_wider_than_the_space_is_reported_lossy(another_world: Callable[..., Any]) -> None:
    world = another_world(titles=500, dim=20)
    reference = fit(*grams(world), config=AlignmentConfig(rank=12)).titles(world.titles)
    new = world.retrained(1)
    t = fit(*grams(new), Anchors(new.titles, reference))
    assert t.lossy
    assert (t.width, t.rank, t.native_width) == (12, 12, 20)
    assert 0.5 < t.energy_kept < 1
    np.testing.assert_allclose(t.titles(new.titles), reference, atol=1e-9)


def test_a_space_may_be_opened_narrower_or_wider_than_the_model(world: Any) -> None:
    narrow = fit(*grams(world), config=AlignmentConfig(rank=5))
    assert narrow.lossy
    assert narrow.titles(world.titles).shape == (300, 5)
    wide = fit(*grams(world), config=AlignmentConfig(rank=16))
    assert not wide.lossy
    assert wide.titles(world.titles).shape == (300, 16)
    np.testing.assert_allclose(wide.members(world.members) @ wide.titles(world.titles).T, world.scores, atol=1e-10)
