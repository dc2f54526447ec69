from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment import AlignmentConfig, AlignmentTransform, Anchors, Gram, fit
from stores.errors import AlignmentError, MismatchError


def grams(world: Any) -> tuple[Gram, Gram]:
    return Gram.of(world.members), Gram.of(world.titles)


def opened(world: Any) -> AlignmentTransform:
    """The transform of the release that opens the space."""
    return fit(*grams(world))


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


# --- 1: scores are kept


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), mode=st.sampled_from(["canonical", "orthogonal", "off"]), aligned=st.booleans())
def test_scores_are_kept_to_rounding(world: Any, seed: int, mode: str, aligned: bool) -> None:
    config = AlignmentConfig(mode=mode)
    new = world.retrained(seed, noise=0.1)
    anchors = Anchors(new.titles, opened(world).titles(world.titles)) if aligned else None
    t = fit(*grams(new), anchors, config)
    error = np.abs(t.members(new.members) @ t.titles(new.titles).T - new.scores).max()
    assert error <= 1e-12 * np.abs(new.scores).max()
    np.testing.assert_allclose(t.title_map @ t.member_map.T, np.eye(12), atol=1e-10)
    assert not t.lossy


def test_scores_are_kept_from_float32_storage(world: Any) -> None:
    new = world.retrained(1)
    t = fit(*grams(new), Anchors(new.titles, opened(world).titles(world.titles)))
    members, titles = new.members.astype(np.float32), new.titles.astype(np.float32)
    native = members.astype(np.float64) @ titles.astype(np.float64).T
    aligned = t.members(members), t.titles(titles)
    assert aligned[0].dtype == aligned[1].dtype == np.float32
    assert np.abs(aligned[0] @ aligned[1].T - native).max() <= 1e-5 * np.abs(native).max()


def test_a_space_opens_with_equal_diagonal_moments(world: Any) -> None:
    t = opened(world)
    for x in (t.members(world.members), t.titles(world.titles)):
        np.testing.assert_allclose(x.T @ x / len(x), np.diag(t.energies), atol=1e-12)
    assert (np.diff(t.energies) < 0).all()
    assert t.energy_kept == 1


# --- 2: the gauge does not matter


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_any_gauge_gives_the_same_output(world: Any, dtype: type, seed: int) -> None:
    space = opened(world)
    reference = space.titles(world.titles)
    new = world.retrained(seed, condition=1e3)
    members, titles = new.members.astype(dtype), new.titles.astype(dtype)
    t = fit(Gram.of(members), Gram.of(titles), Anchors(titles, reference))
    tolerance = 1e-6 if dtype is np.float64 else 1e-4  # condition 1e3 makes 6e-5 of float32's 6e-8
    np.testing.assert_allclose(t.titles(titles), reference, atol=tolerance * np.abs(reference).max())
    expected = space.members(world.members)
    np.testing.assert_allclose(t.members(members), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["canonical", "orthogonal"])
@pytest.mark.parametrize("reflected", [False, True])
def test_planted_rotations_and_reflections_are_undone(
    world: Any, rotation: Callable[..., np.ndarray], mode: str, reflected: bool, dtype: type
) -> None:
    turn = rotation(12, np.random.default_rng(9))
    if (np.linalg.det(turn) < 0) != reflected:
        turn[0] *= -1
    config = AlignmentConfig(mode=mode)
    reference = fit(*grams(world), config=config).titles(world.titles)
    T, W = (world.titles @ turn).astype(dtype), (world.members @ turn).astype(dtype)
    t = fit(Gram.of(W), Gram.of(T), Anchors(T, reference.astype(dtype)), config)
    np.testing.assert_allclose(t.titles(T), reference, atol=1e-10 if dtype is np.float64 else 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_aligning_a_model_with_itself_is_the_identity(world: Any, dtype: type, tolerance: float) -> None:
    titles, gram_m = world.titles.astype(dtype), Gram.of(world.members.astype(dtype))
    space = fit(gram_m, Gram.of(titles))
    again = fit(gram_m, Gram.of(titles), Anchors(titles, space.titles(titles)))
    np.testing.assert_allclose(again.title_map, space.title_map, atol=tolerance)
    np.testing.assert_allclose(again.member_map, space.member_map, atol=tolerance)
    assert len(again.moved) == 0


# --- 3, 4: how the rows came does not matter


def test_order_duplicates_and_weights_do_not_matter(world: Any) -> None:
    reference = opened(world).titles(world.titles)
    new = world.retrained(2, noise=0.2)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(reference))
    t = fit(*grams(new), Anchors(new.titles, reference))
    shuffled = fit(
        Gram.of(np.vstack([new.members, new.members])[rng.permutation(2 * len(new.members))]),
        Gram.of(new.titles[order]),
        Anchors(new.titles[order], reference[order], np.full(len(order), 2.0)),
    )
    np.testing.assert_allclose(shuffled.title_map, t.title_map, atol=1e-6 * np.abs(t.title_map).max())


def test_a_weight_is_a_number_of_copies_of_grams_and_anchors_alike(world: Any) -> None:
    reference = opened(world).titles(world.titles)
    new = world.retrained(2, noise=0.2)
    weights = np.arange(300) % 3
    copies = np.repeat(np.arange(300), weights)
    gram_m = Gram.of(new.members)
    weighted = fit(gram_m, Gram.of(new.titles, weights), Anchors(new.titles, reference, weights))
    copied = fit(gram_m, Gram.of(new.titles[copies]), Anchors(new.titles[copies], reference[copies]))
    np.testing.assert_allclose(weighted.title_map, copied.title_map, atol=1e-6 * np.abs(copied.title_map).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noisy_cold_titles_do_not_move_the_fit_by_one_bit(world: Any, dtype: type) -> None:
    reference = opened(world).titles(world.titles)
    new = world.retrained(3, noise=0.1)
    rng = np.random.default_rng(1)
    cold = rng.normal(size=(80, 12)) * 50
    place = rng.permutation(len(reference) + 80)
    rows = np.vstack([new.titles, cold])[place].astype(dtype)
    towards = np.vstack([reference, cold])[place]
    weights = np.concatenate([np.ones(len(reference)), np.zeros(80)])[place]
    warm = weights > 0
    t = fit(Gram.of(new.members), Gram.of(rows, weights), Anchors(rows, towards, weights))
    clean = fit(Gram.of(new.members), Gram.of(rows[warm]), Anchors(rows[warm], towards[warm]))
    assert t.title_map.tobytes() == clean.title_map.tobytes()
    assert t.member_map.tobytes() == clean.member_map.tobytes()


# --- 5: noise and near ties


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_tied_dimensions_stay_apart_under_noise(rotation: Callable[..., np.ndarray], dtype: type) -> None:
    rng = np.random.default_rng(2)
    dim, sigma = 8, np.linspace(1 + 7e-3, 1, 8)
    W = np.linalg.qr(rng.normal(size=(3000, dim)))[0] * np.sqrt(sigma * 3000)
    T = np.linalg.qr(rng.normal(size=(2000, dim)))[0] * np.sqrt(sigma * 2000)
    reference = fit(Gram.of(W), Gram.of(T)).titles(T)
    turn = rotation(dim, rng)
    W2, T2 = (((x + 0.1 * rng.normal(size=x.shape)) @ turn).astype(dtype) for x in (W, T))
    aligned = fit(Gram.of(W2), Gram.of(T2), Anchors(T2, reference)).titles(T2)
    assert min(np.corrcoef(aligned[:, j], reference[:, j])[0, 1] for j in range(dim)) > 0.97


# --- 6: what is not defined is said


def test_a_constant_column_is_no_obstacle_and_never_the_identity(world: Any) -> None:
    T, W = world.titles.copy(), world.members.copy()
    T[:, 4] = 1.0
    W[:, 7] = 0.0
    space = fit(Gram.of(W), Gram.of(T))
    again = fit(Gram.of(W), Gram.of(T), Anchors(T, space.titles(T)))
    for t in (space, again):
        np.testing.assert_allclose(t.members(W) @ t.titles(T).T, W @ T.T, atol=1e-8)
        assert np.abs(t.title_map - np.eye(12)).max() > 0.1


@pytest.mark.parametrize("count", [0, 1, 11])
def test_fewer_anchors_than_dimensions_are_refused(world: Any, count: int) -> None:
    reference = opened(world).titles(world.titles)
    with pytest.raises(AlignmentError, match=f"{count} anchors leave a rotation of 12 dimensions open"):
        fit(*grams(world), Anchors(world.titles[:count], reference[:count]))
    weights = (np.arange(300) < count).astype(float)
    with pytest.raises(AlignmentError, match=f"{count} anchors"):
        fit(*grams(world), Anchors(world.titles, reference, weights))


def test_members_count_as_anchors(world: Any) -> None:
    space = opened(world)
    new = world.retrained(4)
    titles, members = space.titles(world.titles[:3]), space.members(world.members[:40])
    t = fit(*grams(new), Anchors(new.titles[:3], titles, None, new.members[:40], members))
    np.testing.assert_allclose(t.titles(new.titles), space.titles(world.titles), atol=1e-8)


@pytest.mark.parametrize("side", [0, 1])
def test_fewer_rows_than_dimensions_cannot_be_placed(world: Any, side: int) -> None:
    reference = opened(world).titles(world.titles)
    both = [*grams(world)]
    both[side] = Gram.of((world.members, world.titles)[side][:11])
    with pytest.raises(AlignmentError, match=r"11 (members|titles) cannot fix a space of 12 dimensions"):
        fit(*both, Anchors(world.titles, reference))


def test_anchors_that_do_not_fit_are_refused(world: Any) -> None:
    T = world.titles
    with pytest.raises(MismatchError, match="300 new and 299 reference rows of titles"):
        Anchors(T, T[:-1])
    with pytest.raises(AlignmentError, match="anchors at positions 5 are not finite"):
        Anchors(np.where(np.arange(300)[:, None] == 5, np.nan, T), T)
    with pytest.raises(AlignmentError, match="both member_new and member_reference"):
        Anchors(T, T, member_new=T)
    with pytest.raises(MismatchError, match="anchors are 10 wide, the model's Grams 12"):
        fit(*grams(world), Anchors(T[:, :10], T))


# --- modes


def test_orthogonal_keeps_norms_and_off_keeps_vectors(world: Any) -> None:
    reference = world.retrained(1).titles
    turned = fit(*grams(world), Anchors(world.titles, reference), AlignmentConfig(mode="orthogonal"))
    norms = np.linalg.norm(turned.titles(world.titles), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(world.titles, axis=1), rtol=1e-12)
    off = fit(*grams(world), Anchors(world.titles, reference), AlignmentConfig(mode="off"))
    np.testing.assert_array_equal(off.titles(world.titles), world.titles)
