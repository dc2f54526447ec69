"""Stage 2: the rotation onto the reference, by weighted robust orthogonal Procrustes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alignment.second_moments import Matrix

MAX_IRLS_ITERATIONS = 100
RANK_TOLERANCE = 1e-6
"""Share of the cross-Gram below which a direction says nothing: rounding of float32 rows leaves less than that."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """`Q` (k, s) with QQᵀ = I, the residual of each anchor (n,), the singular values of the cross-Gram (k,),
    and `undetermined` (k, j), orthonormal: the directions of the new side whose rotation the anchors leave open.
    """

    Q: Matrix
    residuals: Matrix
    singular_values: Matrix
    undetermined: Matrix


def procrustes(x: Matrix, y: Matrix, weights: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """argmin over QQᵀ = I of Σ wᵢ ‖xᵢQ − yᵢ‖², reflections allowed (Schönemann 1966).

    `x` (n, k), `y` (n, s), k ≤ s. C = Σ wᵢ xᵢᵀyᵢ = P D Nᵀ, Q = P Nᵀ. Returns Q (k, s), D (k,), P (k, k).
    """
    P, D, Nt = np.linalg.svd((x * weights[:, None]).T @ y, full_matrices=False)
    return P @ Nt, D, P


def robust_procrustes(
    x: Matrix, y: Matrix, weights: Matrix, floor: float = 0.02, moved: tuple[float, float] = (0.3, 3.0)
) -> Rotation:
    """Procrustes on directions that anchors which moved cannot bend.

    Rows are taken at unit length, so a long mover pulls no harder than others; anchor i is reweighted by
    1/max(residualᵢ, `floor`) until Q settles (IRLS for Σ‖xᵢQ − yᵢ‖), which movers cannot bend but noise can. So Q
    is refitted, with the weights given, on all that have not `moved`: farther than an absolute residual and than a
    multiple of the median one. Residuals are distances of unit vectors, 0 to 2; NaN for a zero row.
    """
    x, x_known = _unit_rows(x)
    y, y_known = _unit_rows(y)
    known = x_known & y_known
    weights = np.where(known, weights, 0.0)
    Q, _, _ = procrustes(x, y, weights)
    for _ in range(MAX_IRLS_ITERATIONS):
        residuals = np.linalg.norm(x @ Q - y, axis=1)
        settled, Q = Q, procrustes(x, y, weights / np.maximum(residuals, floor))[0]
        if np.abs(Q - settled).max() < 1e-9:
            break
    residuals = np.linalg.norm(x @ Q - y, axis=1)
    stayed = residuals <= max(moved[0], moved[1] * weighted_median(residuals, weights))
    Q, D, P = procrustes(x, y, np.where(stayed, weights, 0.0))
    residuals = np.where(known, np.linalg.norm(x @ Q - y, axis=1), np.nan)
    return Rotation(Q, residuals, D, P[:, np.less_equal(D, RANK_TOLERANCE * D.sum())])


def unit_residuals(x: Matrix, y: Matrix) -> Matrix:
    """‖x̂ᵢ − ŷᵢ‖ of aligned rows and their references at unit length, (n,), 0 to 2; NaN for a zero row."""
    (x, x_known), (y, y_known) = _unit_rows(x), _unit_rows(y)
    return np.where(x_known & y_known, np.linalg.norm(x - y, axis=1), np.nan)


def weighted_median(values: Matrix, weights: Matrix) -> float:
    """The smallest value up to which half of the weight lies; 0 without weight."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)]) if weights.sum() > 0 else 0.0


def _unit_rows(x: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Rows at unit length, and which have one."""
    norms = np.linalg.norm(x, axis=1)
    known = norms > 0
    return x / np.where(known, norms, 1.0)[:, None], known
