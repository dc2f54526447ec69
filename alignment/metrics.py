"""Metrics of aligned against reference rows, each on anchors that the fit did not see; stability of dimensions.

`x` (n, s) aligned rows of this release, `y` (n, s) the same entities in the reference, float64.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment.second_moments import Matrix, Rows
from alignment.transform import AlignmentTransform

MAX_SAMPLE_ROWS = 2000
"""Rows that figures of quadratic cost look at, taken evenly: their error is then about a percent."""


def row_cosines(x: Matrix, y: Matrix) -> Matrix:
    """Cosine of each pair, (n,); 0 where a row is zero."""
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(np.einsum("ij,ij->i", x, y) / np.where(norms > 0, norms, np.inf))


def identification_auc(x: Matrix, y: Matrix) -> float:
    """Chance that xᵢ is nearer to its own yᵢ than to another anchor's yⱼ, by cosine; 0.5 is chance.

    Unlike the cosine itself it sees through a direction that all vectors share, such as popularity.
    """
    x, y = _unit_or_zero(evenly_spaced_rows(x)), _unit_or_zero(evenly_spaced_rows(y))
    S = x @ y.T
    own = np.diag(S)[:, None]
    wins = (own > S).sum() + 0.5 * ((own == S).sum() - len(S))
    return float(wins / max(len(S) * (len(S) - 1), 1))


def dimension_correlations(x: Matrix, y: Matrix) -> Matrix:
    """Pearson correlation of each dimension, (s,); 0 where one side is constant there."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    return np.asarray(np.einsum("ij,ij->j", x, y) / np.where(norms > 0, norms, np.inf))


def energy_weighted_correlation(x: Matrix, y: Matrix) -> float:
    """Correlations averaged by the reference's variance in each dimension: most energy sits in few of them."""
    energy = y.var(axis=0)
    return float(dimension_correlations(x, y) @ energy / energy.sum()) if energy.sum() > 0 else 0.0


def norm_ratio(x: Matrix, y: Matrix) -> float:
    """Typical norm of the aligned rows over that of the reference; infinite where the reference is zero."""
    typical = float(np.median(np.linalg.norm(y, axis=1)))
    return float(np.median(np.linalg.norm(x, axis=1))) / typical if typical > 0 else np.inf


def min_singular_value_ratio(x: Matrix, y: Matrix) -> float:
    """Smallest over largest singular value of C = xᵀy: how firmly the weakest direction is held."""
    D = np.linalg.svd(x.T @ y, compute_uv=False)
    return float(D[-1] / D[0]) if D[0] > 0 else 0.0


def procrustes_bound_ratio(x: Matrix, y: Matrix) -> float:
    """‖X − Y‖_F over the a-priori bound (2e)^¼ √‖XXᵀ − YYᵀ‖_F that the best rotation keeps; ≤ 1 means near the optimum.

    ‖XXᵀ − YYᵀ‖² = ‖XᵀX‖² − 2‖XᵀY‖² + ‖YᵀY‖², so nothing of size n² is made. 0 where both are equal.
    """
    xx, xy, yy = x.T @ x, x.T @ y, y.T @ y
    apart = max(float((xx**2).sum() - 2 * (xy**2).sum() + (yy**2).sum()), 0.0)
    bound = (2 * x.shape[1]) ** 0.25 * apart**0.25
    distance = float(np.linalg.norm(x - y))
    return distance / bound if bound > 0 else 0.0


def max_score_error(transform: AlignmentTransform) -> float:
    """‖M_W M_Tᵀ − I‖_max: the largest change of a score, per unit of its factors; exact transforms give rounding."""
    return float(np.abs(transform.member_map @ transform.title_map.T - np.eye(transform.native_width)).max())


def topk_overlap(scores: Matrix, others: Matrix, k: int = 10) -> float:
    """Mean share of the top k of each row that two score matrices (members, titles) have in common."""
    k = min(k, scores.shape[1])
    one, two = (np.argpartition(-S, k - 1, axis=1)[:, :k] for S in (scores, others))
    return float((one[:, :, None] == two[:, None, :]).any(axis=2).mean())


def score_correlation(scores: Matrix, others: Matrix) -> float:
    """Correlation of all scores of a sample, members' own offsets taken out."""
    a, b = (S - S.mean(axis=1, keepdims=True) for S in (scores, others))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def evenly_spaced_rows(x: NDArray[Any], count: int = MAX_SAMPLE_ROWS) -> NDArray[Any]:
    """At most `count` rows of `x`, evenly spaced."""
    return x if len(x) <= count else x[np.linspace(0, len(x) - 1, count).astype(np.intp)]


def _unit_or_zero(x: Matrix) -> Matrix:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norms > 0, norms, 1.0)


TIED_ENERGY_GAP = 0.05
"""Relative gap of energies below which noise of the usual size rotates two dimensions into each other."""


@dataclass(frozen=True)
class DimensionStability:
    """One published coordinate: its share of the energy, the relative gap to the next one (1 for the last),
    its correlation with the reference (NaN without anchors), and the number of its block of tied dimensions.
    """

    index: int
    energy: float
    gap: float
    correlation: float
    block: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a report; NaN as None, which JSON can hold."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def dimension_report(
    aligned: Rows, reference: Rows | None = None, tied: float = TIED_ENERGY_GAP
) -> list[DimensionStability]:
    """One entry per dimension of the space, in order; rows (n, s) of the same titles, aligned and in the reference.

    Energies are mean squares of the reference's rows (of `aligned` without one): in the space's own coordinates
    these are its canonical energies. A block is a run of dimensions whose neighbours are tied.
    """
    x = np.asarray(aligned, dtype=np.float64)
    y = x if reference is None else np.asarray(reference, dtype=np.float64)
    energy = (y**2).mean(axis=0)
    share = energy / energy.sum() if energy.sum() > 0 else energy
    gaps = relative_gaps(energy)
    blocks = np.concatenate([[0], np.cumsum(gaps[:-1] > tied)])
    agreement = np.full(len(energy), np.nan) if reference is None else dimension_correlations(x, y)
    columns = zip(share.tolist(), gaps.tolist(), agreement.tolist(), blocks.tolist(), strict=True)
    return [DimensionStability(index, *values) for index, values in enumerate(columns)]


def relative_gaps(energy: Matrix) -> Matrix:
    """|Eⱼ − Eⱼ₊₁| / max of both, (s,); 0 between two empty dimensions, 1 for the last."""
    here, after = energy[:-1], energy[1:]
    larger = np.maximum(here, after)
    gaps = np.abs(here - after) / np.where(larger > 0, larger, 1.0)
    return np.concatenate([gaps, [1.0]])
