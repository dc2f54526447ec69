from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignment import AlignmentConfig, Anchors, FitResult, Gram, fit, fit_and_validate

HELD = slice(0, 60)


def placed(world: Any, new: Any, fitted: slice = slice(60, None), **config: Any) -> FitResult:
    """Place a retrain into the space that a world opened, fitting on these titles and members."""
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    titles, members = space.titles(world.titles), space.members(world.members)
    both = [Anchors(new.titles[s], titles[s], None, new.members[s], members[s]) for s in (fitted, HELD)]
    return fit_and_validate(Gram.of(new.members), Gram.of(new.titles), *both, AlignmentConfig(**config))


def test_a_retrain_is_placed_into_the_space(world: Any) -> None:
    found = placed(world, world.retrained(1, noise=0.05))
    assert found.in_planned_space
    reference = fit(Gram.of(world.members), Gram.of(world.titles)).titles(world.titles)
    new = found.transform.titles(world.retrained(1, noise=0.05).titles)
    assert np.linalg.norm(new - reference) < 0.1 * np.linalg.norm(reference)


@pytest.mark.parametrize("mode", ["canonical", "orthogonal"])
def test_what_does_not_belong_gets_its_own_canonical_space(
    world: Any, another_world: Callable[..., Any], mode: str
) -> None:
    stranger = another_world(seed=77)
    found = placed(world, stranger, mode=mode)
    assert found.verdict.outcome == "refused"
    own = fit(Gram.of(stranger.members), Gram.of(stranger.titles), config=AlignmentConfig(mode=mode))
    assert found.transform.hash == own.hash
    assert not found.in_planned_space


def test_a_fit_that_is_not_defined_is_a_new_space_with_its_reason(world: Any) -> None:
    found = placed(world, world.retrained(1), fitted=slice(0, 3))
    assert found.verdict.outcome == "new_space"
    assert "6 anchors leave a rotation of 12 dimensions open" in found.verdict.reasons[0]


def test_movers_among_the_held_out_do_not_bend_the_others(world: Any) -> None:
    rng = np.random.default_rng(3)
    moved = np.flatnonzero(rng.random(300) < 0.3)
    titles, direction = world.titles.copy(), rng.normal(size=12)
    titles[moved] = 3 * np.linalg.norm(titles[moved], axis=1, keepdims=True) * direction / np.linalg.norm(direction)
    new = type(world)(world.members, titles).retrained(2)
    found = placed(world, new)
    reference = fit(Gram.of(world.members), Gram.of(world.titles)).titles(world.titles)
    aligned = found.transform.titles(new.titles)
    cosine = (aligned * reference).sum(1) / np.linalg.norm(aligned, axis=1) / np.linalg.norm(reference, axis=1)
    assert np.delete(cosine, moved).min() > 0.99
    assert found.in_planned_space
