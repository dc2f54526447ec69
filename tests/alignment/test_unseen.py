import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignment import Anchors, Gram, fit
from alignment.acceptance import cross_fitted_positions


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.median((x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitted_rows_look_as_strangers_do(another_world: Callable[..., Any], dtype: type) -> None:
    """Of an unrelated model nothing agrees; in-sample the rotation makes it look as if something did."""
    old, new = (another_world(titles=240, dim=48, seed=seed) for seed in (0, 1))
    reference = fit(Gram.of(old.members), Gram.of(old.titles)).titles(old.titles)
    titles = new.titles.astype(dtype)
    t = fit(Gram.of(new.members), Gram.of(titles), Anchors(titles[:200], reference[:200]))
    found, none = cross_fitted_positions(t, Anchors(titles, reference))
    assert cosine(t.titles(titles[:200]), reference[:200]) > 0.3
    assert abs(cosine(found[:200], reference[:200])) < 0.15
    np.testing.assert_array_equal(found[200:], t.titles(titles[200:].astype(np.float64)))
    assert none.shape == (0, 48)


def test_where_both_agree_nothing_changes_on_either_side(world: Any) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    new = world.retrained(1)
    anchors = Anchors(new.titles, space.titles(world.titles), None, new.members, space.members(world.members))
    t = fit(Gram.of(new.members), Gram.of(new.titles), anchors)
    for found, reference in zip(
        cross_fitted_positions(t, anchors), (anchors.reference, anchors.members[1]), strict=True
    ):
        np.testing.assert_allclose(found, reference, atol=1e-8)


def test_workers_and_files_get_the_transform_without_its_anchors(world: Any) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    anchors = Anchors(world.titles, space.titles(world.titles))
    t = fit(Gram.of(world.members), Gram.of(world.titles), anchors)
    travelled = pickle.loads(pickle.dumps(t))  # noqa: S301 - our own bytes
    assert t.fitted is not None
    assert travelled.fitted is None
    assert travelled.hash == t.hash
    np.testing.assert_array_equal(cross_fitted_positions(travelled, anchors)[0], t.titles(world.titles))
