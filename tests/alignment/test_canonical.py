from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alignment.canonical import canonical_basis, native_basis, orthogonal_basis
from alignment.second_moments import Gram
from stores.errors import AlignmentError, MismatchError

RIDGE = 1e-12


def correlation_off_diagonal(moment: np.ndarray) -> float:
    scale = np.sqrt(np.diag(moment))
    return float(np.abs(moment / scale[:, None] / scale - np.eye(len(moment))).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maps_are_inverse_and_second_moments_are_the_singular_values_of_the_scores(world: Any, dtype: type) -> None:
    W, T = world.members.astype(dtype), world.titles.astype(dtype)
    basis = canonical_basis(Gram.of(W), Gram.of(T), RIDGE)
    W, T = W.astype(np.float64), T.astype(np.float64)
    sigma = np.linalg.svd(W @ T.T / np.sqrt(len(W) * len(T)), compute_uv=False)[: W.shape[1]]
    np.testing.assert_allclose(basis.title_map @ basis.member_map.T, np.eye(12), atol=1e-12)
    np.testing.assert_allclose(basis.energies, sigma, rtol=1e-12)
    for x in (W @ basis.member_map, T @ basis.title_map):
        np.testing.assert_allclose(x.T @ x / len(x), np.diag(sigma), atol=1e-12 * sigma[0])
    assert (np.diff(basis.energies) <= 0).all()
    assert basis.ridge == (0.0, 0.0)


def test_the_first_columns_give_the_best_scores_of_their_rank(world: Any) -> None:
    basis = canonical_basis(Gram.of(world.members), Gram.of(world.titles), RIDGE).truncate(5)
    U, sigma, Vt = np.linalg.svd(world.scores, full_matrices=False)
    kept = (world.members @ basis.member_map) @ (world.titles @ basis.title_map).T
    np.testing.assert_allclose(kept, U[:, :5] * sigma[:5] @ Vt[:5], atol=1e-10)


def test_duplicating_all_members_changes_nothing(world: Any) -> None:
    titles = Gram.of(world.titles)
    once = canonical_basis(Gram.of(world.members), titles, RIDGE)
    twice = canonical_basis(Gram.of(np.vstack([world.members] * 2)), titles, RIDGE)
    np.testing.assert_allclose(twice.title_map, once.title_map, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(twice.member_map, once.member_map, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("narrow", ["titles", "members", "both"])
def test_condition_a_million_in_float32_is_still_diagonal(rotation: Callable[..., np.ndarray], narrow: str) -> None:
    rng = np.random.default_rng(1)
    W, T = (np.linalg.qr(rng.normal(size=(count, 16)))[0] * 30 for count in (900, 800))
    spectrum = np.geomspace(1, 1e-6, 16)
    W = (W if narrow == "titles" else W * spectrum @ rotation(16, rng)).astype(np.float32)
    T = (T if narrow == "members" else T * spectrum @ rotation(16, rng)).astype(np.float32)
    basis = canonical_basis(Gram.of(W), Gram.of(T), RIDGE)
    for x in (W.astype(np.float64) @ basis.member_map, T.astype(np.float64) @ basis.title_map):
        assert correlation_off_diagonal(x.T @ x / len(x)) < 1e-3
    np.testing.assert_allclose(basis.title_map @ basis.member_map.T, np.eye(16), atol=1e-9)


@pytest.mark.parametrize("lost", ["titles", "members", "both"])
def test_lost_dimensions_get_a_ridge_and_cold_rows_outside_the_span_stay_exact(world: Any, lost: str) -> None:
    W, T = world.members.copy(), world.titles.copy()
    if lost != "members":
        T[:, 3:] = 0
    if lost != "titles":
        W[:, 5:] = 0
    basis = canonical_basis(Gram.of(W), Gram.of(T), RIDGE)
    assert (basis.ridge[0] > 0, basis.ridge[1] > 0) == (lost != "titles", lost != "members")
    cold_W, cold_T = world.members[:50], world.titles[:50]
    scores = (cold_W @ basis.member_map) @ (cold_T @ basis.title_map).T
    np.testing.assert_allclose(scores, cold_W @ cold_T.T, atol=1e-6)


def test_signs_follow_the_largest_entry(world: Any) -> None:
    M = canonical_basis(Gram.of(world.members), Gram.of(world.titles), RIDGE).title_map
    assert (M[np.abs(M).argmax(axis=0), np.arange(12)] > 0).all()


def test_orthogonal_keeps_norms_and_native_keeps_everything(world: Any) -> None:
    grams = Gram.of(world.members), Gram.of(world.titles)
    basis = orthogonal_basis(*grams)
    np.testing.assert_allclose(basis.title_map.T @ basis.title_map, np.eye(12), atol=1e-13)
    assert basis.title_map is basis.member_map
    np.testing.assert_array_equal(native_basis(*grams).title_map, np.eye(12))


def test_what_has_no_direction_is_refused(world: Any) -> None:
    titles = Gram.of(world.titles)
    with pytest.raises(AlignmentError, match="members are zero"):
        canonical_basis(Gram.of(np.zeros((30, 12))), titles, RIDGE)
    with pytest.raises(AlignmentError, match="no rows"):
        canonical_basis(Gram.zero(12), titles, RIDGE)
    with pytest.raises(MismatchError, match="11 dimensions and titles 12"):
        canonical_basis(Gram.of(world.members[:, :11]), titles, RIDGE)
