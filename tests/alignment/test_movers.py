"""Titles that moved do not bend the others, and are listed, whatever the weights and the precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignment import AlignmentTransform, Anchors, Gram, fit
from stores.errors import AlignmentError

SHARE = 0.3


def moved_world(world: Any, seed: int = 5) -> tuple[Any, np.ndarray]:
    """A retrain in which three titles in ten went the same way at three times their norm, and which they are."""
    rng = np.random.default_rng(seed)
    dim = world.titles.shape[1]
    moved = rng.random(len(world.titles)) < SHARE
    direction = rng.normal(size=dim)
    titles = world.titles.copy()
    norms = np.linalg.norm(titles[moved], axis=1, keepdims=True)
    noise = 0.05 * rng.normal(size=(moved.sum(), dim))
    titles[moved] = 3 * norms * (direction / np.linalg.norm(direction) + noise)
    return type(world)(world.members, titles).retrained(seed + 1), moved


def clean_cosines(t: AlignmentTransform, titles: np.ndarray, reference: np.ndarray, moved: np.ndarray) -> np.ndarray:
    x, y = t.titles(titles)[~moved], reference[~moved]
    return np.asarray((x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("dim", "titles"), [(12, 300), (48, 900)])
def test_movers_do_not_bend_the_rest_and_are_listed(
    another_world: Callable[..., Any], dim: int, titles: int, dtype: type
) -> None:
    world = another_world(members=1500, titles=titles, dim=dim)
    reference = fit(Gram.of(world.members), Gram.of(world.titles)).titles(world.titles).astype(dtype)
    new, moved = moved_world(world)
    native = new.titles.astype(dtype)
    t = fit(Gram.of(new.members.astype(dtype)), Gram.of(native), Anchors(native, reference))
    clean = clean_cosines(t, native, reference, moved)
    assert clean.min() >= 0.99
    assert np.median(clean) >= 0.999
    assert t.moved.tolist() == np.flatnonzero(moved).tolist()


def test_in_a_noisy_retrain_nothing_is_news(world: Any) -> None:
    reference = fit(Gram.of(world.members), Gram.of(world.titles)).titles(world.titles)
    new = world.retrained(7, noise=0.8)
    assert len(fit(Gram.of(new.members), Gram.of(new.titles), Anchors(new.titles, reference)).moved) == 0


@pytest.mark.parametrize("scale", [0.1, 2.0, 500.0])
def test_movers_leave_a_gram_without_weights_once_each(world: Any, scale: float) -> None:
    """What anchors weigh says nothing about how often a title is in the Gram."""
    gram_m = Gram.of(world.members)
    reference = fit(gram_m, Gram.of(world.titles)).titles(world.titles)
    new, moved = moved_world(world)
    weights = np.random.default_rng(0).uniform(0.5, 1, size=300) * scale
    t = fit(Gram.of(new.members), Gram.of(new.titles), Anchors(new.titles, reference, weights))
    assert clean_cosines(t, new.titles, reference, moved).min() >= 0.99
    assert t.moved.tolist() == np.flatnonzero(moved).tolist()


def test_movers_leave_a_weighted_gram_with_the_weight_that_they_had(world: Any) -> None:
    weights = np.random.default_rng(5).uniform(1, 20, size=300)
    gram_m = Gram.of(world.members)
    reference = fit(gram_m, Gram.of(world.titles, weights)).titles(world.titles)
    new, moved = moved_world(world)
    shards = [Gram.of(new.titles[rows], weights[rows]) for rows in np.array_split(np.arange(300), 3)]
    t = fit(Gram.of(new.members), shards[0] + shards[1] + shards[2], Anchors(new.titles, reference, weights))
    assert t.moved.tolist() == np.flatnonzero(moved).tolist()
    apart = np.linalg.norm(t.titles(new.titles) - reference, axis=1)[~moved] / np.linalg.norm(reference[~moved], axis=1)
    assert np.median(apart) < 0.06


def test_movers_that_were_never_in_the_gram_are_refused(world: Any) -> None:
    reference = fit(Gram.of(world.members), Gram.of(world.titles)).titles(world.titles)
    new, _ = moved_world(world)
    small = Gram.of(new.titles[:20], np.ones(20))
    with pytest.raises(AlignmentError, match="moved anchors weigh more than the Gram of all titles"):
        fit(Gram.of(new.members), small, Anchors(new.titles, reference))
