"""Stage 1: the canonical low-rank basis, the one place that all (T G, W G⁻ᵀ) of one model share.

Scores S = W Tᵀ do not see an invertible G, so a retrain may return any. The canonical basis is that of
svd(S/√(nm)), reached from the two e×e second moments alone (Zielnicki & Hsiao, arXiv 2508.07574; re-derived):

    G = E diag(λ) Eᵀ,  R = diag(√λ) Eᵀ,  K = R_T R_Wᵀ = U Σ Vᵀ
    M_T = R_Wᵀ V Σ^-½,  M_W = R_Tᵀ U Σ^-½   ⇒   M_T M_Wᵀ = I,  M_Tᵀ G_T M_T = M_Wᵀ G_W M_W = diag(Σ)
"""

from dataclasses import dataclass

import numpy as np

from alignment.second_moments import Gram, Matrix
from stores.errors import AlignmentError, MismatchError


@dataclass(frozen=True, eq=False)
class Basis:
    """Maps (e, k) from native rows into a basis ordered by energy; `energies` (e,) are all of them, descending.

    `ridge` is what was added to the mean second moments of members and of titles.
    """

    member_map: Matrix
    title_map: Matrix
    energies: Matrix
    ridge: tuple[float, float] = (0.0, 0.0)

    def truncate(self, rank: int) -> "Basis":
        """The `rank` columns of most energy: the best scores of that rank (Eckart–Young)."""
        return Basis(self.member_map[:, :rank], self.title_map[:, :rank], self.energies, self.ridge)


def canonical_basis(members: Gram, titles: Gram, ridge: float) -> Basis:
    """The canonical basis of two second moments of the same width e; maps are (e, e) float64.

    The sign of each column is such that its largest |entry| of `title_map` is positive.
    Raises AlignmentError where a side has no rows or only zeros, MismatchError where the widths differ.
    """
    _same_width(members, titles)
    R_W, ridge_W = _cholesky_with_ridge(members, ridge, "members")
    R_T, ridge_T = _cholesky_with_ridge(titles, ridge, "titles")
    U, sigma, Vt = np.linalg.svd(R_T @ R_W.T)
    M_T = R_W.T @ (Vt.T / np.sqrt(sigma))
    M_W = R_T.T @ (U / np.sqrt(sigma))
    # One Newton step for the inverse: what rounding took from M_T M_Wᵀ = I at a high condition comes back.
    M_W = ((2 * np.eye(len(sigma)) - M_W @ M_T.T) @ M_W) if len(sigma) else M_W
    sign = _column_signs(M_T)
    return Basis(M_W * sign, M_T * sign, sigma, (ridge_W, ridge_T))


def orthogonal_basis(members: Gram, titles: Gram) -> Basis:
    """The principal axes of both sides together: keeps norms and cosines, so both maps are the same rotation.

    Each side counts alike, whatever its norms. The energy of a dimension is √(members' × titles' moment) in it.
    """
    _same_width(members, titles)
    G_W, G_T = members.mean, titles.mean
    _, E = np.linalg.eigh(G_W / _mean_energy(G_W, "members") + G_T / _mean_energy(G_T, "titles"))
    E = E[:, ::-1]
    E = E * _column_signs(E)
    energies = np.sqrt(np.maximum(np.diag(E.T @ G_W @ E), 0) * np.maximum(np.diag(E.T @ G_T @ E), 0))
    return Basis(E, E, energies)


def native_basis(members: Gram, titles: Gram) -> Basis:
    """The model's own coordinates; energies as in `orthogonal_basis` but in the model's order."""
    _same_width(members, titles)
    identity = np.eye(titles.dim)
    return Basis(identity, identity, np.sqrt(np.diag(members.mean) * np.diag(titles.mean)))


def _cholesky_with_ridge(gram: Gram, ridge: float, side: str) -> tuple[Matrix, float]:
    """R (e, e) with RᵀR = the mean second moment plus the ridge that was needed, and that ridge.

    Eigen-roots, never Cholesky (it fails at condition 1e6 from float32). An eigenvalue below
    `ridge`·tr/e drowns in rounding: only then is that much added, for a ridge spoils the invariance.
    """
    G = gram.mean
    eigenvalues, E = np.linalg.eigh(G)
    floor = ridge * _mean_energy(G, side)
    added = 0.0 if eigenvalues[0] > floor else floor
    return np.sqrt(np.maximum(eigenvalues, 0) + added)[:, None] * E.T, added


def _mean_energy(G: Matrix, side: str) -> float:
    """The mean energy per dimension, tr/e."""
    scale = float(np.trace(G)) / len(G)
    if not scale > 0:
        raise AlignmentError(f"all vectors of the {side} are zero", expected="vectors with a direction")
    return scale


def _column_signs(M: Matrix) -> Matrix:
    """±1 per column that makes its largest |entry| positive: a convention, for the moments leave signs open."""
    largest = M[np.abs(M).argmax(axis=0), np.arange(M.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def _same_width(members: Gram, titles: Gram) -> None:
    if members.dim != titles.dim:
        raise MismatchError(f"members have {members.dim} dimensions and titles {titles.dim}")
