"""Fit the transform: canonical basis, then the rotation onto the reference.

M_W, M_T  from the second moments           (canonical.py)
Q         from anchors in that basis        (procrustes.py)
maps      M_W·Q and M_T·Q
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alignment.anchors import Anchors
from alignment.canonical import Basis, canonical_basis, native_basis, orthogonal_basis
from alignment.config import AlignmentConfig
from alignment.procrustes import Rotation, robust_procrustes
from alignment.second_moments import Gram, Matrix, require
from alignment.transform import AlignmentTransform
from stores.errors import AlignmentError, AlignmentInputError, MismatchError

MAX_REWEIGHTING_ROUNDS = 10
"""Times that movers are taken out of stage 1; they settle in two or three."""


def fit(
    gram_m: Gram, gram_t: Gram, anchors: Anchors | None = None, config: AlignmentConfig | None = None
) -> AlignmentTransform:
    """The transform of one model from the second moments of its members and titles, (e, e) each.

    Without `anchors` it opens a space: the canonical basis itself, `config.rank` wide (default e), each column's
    largest |entry| of the title map positive. With anchors it maps onto their reference, whose width s is kept:
    a narrower model is zero-padded (exact), a wider one reduced to s dimensions (lossy). Titles among the anchors
    that moved are taken out of `gram_t` (which holds each by its weight, or once if it was made without weights)
    and the fit is repeated.

    Raises AlignmentInputError for arguments of another kind; AlignmentError where a side is empty or zero, has fewer
    rows than dimensions (with anchors), or where there are fewer anchors than dimensions to rotate: the rotation would
    be a guess.
    """
    config = config or AlignmentConfig()
    require(config, AlignmentConfig, "config")
    for gram, name in ((gram_m, "gram_m"), (gram_t, "gram_t")):
        require(gram, Gram, name)
        if not np.isfinite(gram.moment).all():
            raise AlignmentInputError(f"{name} is not finite", expected="a Gram of finite rows")
    if anchors is not None:
        require(anchors, Anchors, "anchors")
    if config.mode == "off":
        width = anchors.width if anchors else config.rank or gram_t.dim
        return _compose_transform(native_basis(gram_m, gram_t), np.eye(min(gram_t.dim, width), width), config)
    if anchors is None:
        width = config.rank or gram_t.dim
        return _compose_transform(_choose_basis(gram_m, gram_t, config), np.eye(min(gram_t.dim, width), width), config)
    _check_inputs(gram_m, gram_t, anchors, config)
    return _fit_onto(gram_m, gram_t, anchors, config)


def _fit_onto(gram_m: Gram, gram_t: Gram, anchors: Anchors, config: AlignmentConfig) -> AlignmentTransform:
    """Alternate the two stages until the set of moved anchors no longer changes."""
    positions, anchors = np.flatnonzero(anchors.has_weight), anchors.without_zero_weights()
    moved = np.zeros(len(positions), dtype=bool)
    for _ in range(MAX_REWEIGHTING_ROUNDS):
        basis = _choose_basis(gram_m, subtract_anchors(gram_t, anchors, moved), config).truncate(
            _kept_rank(gram_t.dim, anchors, config)
        )
        rotation = _fit_rotation(basis, anchors, config)
        before, moved = moved, moved_anchors(rotation.residuals[: len(positions)], config)
        if config.mode != "canonical" or (moved == before).all():
            break
    transform = _compose_transform(basis, rotation.Q, config)
    undetermined = _undetermined_energy(basis, rotation)
    return replace(transform, moved=positions[moved], undetermined=undetermined, fitted=anchors)


def subtract_anchors(gram: Gram, anchors: Anchors, some: NDArray[np.bool_]) -> Gram:
    """The Gram of all titles but some of the anchors, (n,): each was in it by its weight, or once if it had no weights.

    Raises AlignmentError where that is more than the Gram holds.
    """
    left = gram - Gram.of(anchors.new[some], np.asarray(anchors.weights)[some] if gram.weighted else None)
    if left.count < 0 or (np.diag(left.moment) < -1e-9 * np.diag(gram.moment)).any():
        raise AlignmentError(
            f"{some.sum()} moved anchors weigh more than the Gram of all titles",
            expected="a Gram of the titles that holds the anchors, with the same weights",
        )
    return left


def _undetermined_energy(basis: Basis, rotation: Rotation) -> float:
    """Share of the model's energy, not only of the anchors', that lies where the anchors leave the rotation open."""
    energy = basis.energies[: len(rotation.Q)]
    return float(energy @ (rotation.undetermined**2).sum(axis=1) / energy.sum())


def moved_anchors(residuals: Matrix, config: AlignmentConfig) -> NDArray[np.bool_]:
    """Anchors whose direction changed by much more than the typical anchor's, (n,); a zero row (NaN) did not move."""
    known = ~np.isnan(residuals)
    if not known.any():
        return known
    limit = max(config.moved_residual, config.moved_factor * float(np.median(residuals[known])))
    return np.asarray(np.nan_to_num(residuals) > limit)


def _fit_rotation(basis: Basis, anchors: Anchors, config: AlignmentConfig) -> Rotation:
    """The rotation of titles and members together; however many members there are, they weigh as much as the titles."""
    titles, weights = anchors.new.astype(np.float64) @ basis.title_map, np.asarray(anchors.weights)
    members, member_reference = anchors.members
    x = np.vstack([titles, members.astype(np.float64) @ basis.member_map])
    y = np.vstack([anchors.reference, member_reference]).astype(np.float64)
    each = weights.sum() / len(members) if len(members) and weights.sum() else 1.0
    weights = np.concatenate([weights, np.full(len(members), each)])
    moved = (config.moved_residual, config.moved_factor)
    return robust_procrustes(x, y, weights, config.residual_floor, moved)


def _choose_basis(gram_m: Gram, gram_t: Gram, config: AlignmentConfig) -> Basis:
    if config.mode == "orthogonal":
        return orthogonal_basis(gram_m, gram_t)
    return canonical_basis(gram_m, gram_t, config.ridge)


def _kept_rank(dim: int, anchors: Anchors, config: AlignmentConfig) -> int:
    """Dimensions kept: no more than the model has, the space holds, or the configuration asks for."""
    return min(dim, anchors.width, config.rank or dim)


def _compose_transform(basis: Basis, Q: Matrix, config: AlignmentConfig) -> AlignmentTransform:
    kept = basis.truncate(len(Q))
    maps = kept.member_map @ Q, kept.title_map @ Q
    if not all(np.isfinite(part).all() for part in (*maps, basis.energies)):
        fix = "scale the model's vectors so that their squares are ordinary numbers"
        raise AlignmentError("the maps are not finite: the second moments are too small or too large", fix=fix)
    return AlignmentTransform(*maps, basis.energies, config.mode, len(Q), basis.ridge)


def _check_inputs(gram_m: Gram, gram_t: Gram, anchors: Anchors, config: AlignmentConfig) -> None:
    """Refuse what leaves the place in the space open."""
    if anchors.new.shape[1] != gram_t.dim:
        raise MismatchError(f"anchors are {anchors.new.shape[1]} wide, the model's Grams {gram_t.dim}")
    for gram, side in ((gram_m, "members"), (gram_t, "titles")):
        if gram.count < gram.dim:
            raise AlignmentError(
                f"{gram.count:g} {side} cannot fix a space of {gram.dim} dimensions",
                expected=f"at least {gram.dim}",
                fix="train a narrower model, or open a new space",
            )
    rank = _kept_rank(gram_t.dim, anchors, config)
    if anchors.count < rank:
        raise AlignmentError(
            f"{anchors.count} anchors leave a rotation of {rank} dimensions open",
            expected=f"at least {rank} entities that the reference knows",
            fix="open a new space",
        )
