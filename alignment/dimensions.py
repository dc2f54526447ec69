"""Which coordinates of the space are stable on their own, and which only together with their neighbours."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alignment.figures import correlations
from alignment.gram import Matrix, Rows

TIED = 0.05
"""Relative gap of energies below which noise of the usual size rotates two dimensions into each other."""


@dataclass(frozen=True)
class Dimension:
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


def dimension_report(aligned: Rows, reference: Rows | None = None, tied: float = TIED) -> list[Dimension]:
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
    agreement = np.full(len(energy), np.nan) if reference is None else correlations(x, y)
    columns = zip(share.tolist(), gaps.tolist(), agreement.tolist(), blocks.tolist(), strict=True)
    return [Dimension(index, *values) for index, values in enumerate(columns)]


def relative_gaps(energy: Matrix) -> Matrix:
    """|Eⱼ − Eⱼ₊₁| / max of both, (s,); 0 between two empty dimensions, 1 for the last."""
    here, after = energy[:-1], energy[1:]
    larger = np.maximum(here, after)
    gaps = np.abs(here - after) / np.where(larger > 0, larger, 1.0)
    return np.concatenate([gaps, [1.0]])
