"""Which titles the members of one corner of the space may want: learned from members, not from titles.

Members are put into cells by direction (spherical k-means). Within a cell a member q and the score τ of
the last title that it should find are taken as normal, so the margin q·t − τ of a title t is normal
too, and t is among the best of a member of the cell with probability Φ(z), z being its mean over its
standard deviation. Ordering by z and cutting at one value leaves out the fewest of the wanted titles for
a given number of kept ones. The value is read off members who took no part in the fit, so it does not
matter that Φ is wrong far out.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from retrieval.backend import Guide
from retrieval.vectors import Rows, Scores, Vectors, lengths, unit

_BLOCK = 1 << 22  # margins held at a time
_ROUNDS = 8
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Demand:
    """Cells of members: unit centres (c, d), mean of (q, τ) in each (c, d+1), and their common covariance."""

    centres: Vectors
    means: Vectors
    covariance: Floats

    @classmethod
    def of(cls, guide: Guide, cells: int) -> "Demand":
        """Fit to a guide's members at unit length, because the length of a query changes no order."""
        queries = unit(guide.queries)
        last = guide.scores[:, -1:] / np.maximum(lengths(guide.queries), 1e-30)[:, None]
        centres = _centres(queries, cells, guide.seed)
        cell = np.argmax(queries @ centres.T, axis=1)
        both = np.concatenate([queries, last], axis=1).astype(np.float64)
        means = np.concatenate([centres, np.full((cells, 1), both[:, -1].mean())], axis=1).astype(np.float64)
        count = np.bincount(cell, minlength=cells)
        sums = np.zeros_like(means)
        np.add.at(sums, cell, both)
        means[count > 0] = sums[count > 0] / count[count > 0, None]
        apart = both - means[cell]
        return cls(centres, means.astype(np.float32), apart.T @ apart / max(1, len(apart)))

    def cell(self, queries: Vectors) -> Rows:
        """The cell (q,) of each query."""
        cells: Rows = np.argmax(queries @ self.centres.T, axis=1)
        return cells

    def spread(self, vectors: Vectors) -> Scores:
        """The standard deviation (n,) of each title's margin within a cell."""
        root = np.linalg.cholesky(self.covariance + 1e-9 * np.eye(len(self.covariance)))
        return lengths(_with_last(vectors) @ root.astype(np.float32)).astype(np.float32)

    def of_pairs(self, vectors: Vectors, cells: Rows, rows: Rows) -> Scores:
        """z of given (cell, row) pairs (p,)."""
        some = _with_last(vectors[rows])
        z: Scores = np.einsum("ij,ij->i", some, self.means[cells]) / self.spread(vectors[rows])
        return z

    def wanted(self, vectors: Vectors, at_least: float) -> list[Rows]:
        """The rows of each cell whose z is at least that; every title is in the cell where its z is largest."""
        least = at_least * self.spread(vectors)
        whole, step = _with_last(vectors), max(1, _BLOCK // max(1, len(vectors)))
        best, home = np.full(len(vectors), -np.inf, dtype=np.float32), np.zeros(len(vectors), dtype=np.int64)
        lists: list[Rows] = []
        for start in range(0, len(self.centres), step):
            margins = self.means[start : start + step] @ whole.T
            lists += [np.flatnonzero(row >= least) for row in margins]
            top = margins.max(axis=0)
            home = np.where(top > best, start + margins.argmax(axis=0), home)
            best = np.maximum(best, top)
        return [np.union1d(rows, np.flatnonzero(home == cell)) for cell, rows in enumerate(lists)]


def cut(demand: Demand, vectors: Vectors, guide: Guide, kept: float) -> float:
    """The z that `kept` of what a guide's members want reaches."""
    there = guide.rows >= 0
    cells = np.repeat(demand.cell(guide.queries), guide.rows.shape[1])[there.ravel()]
    return float(np.quantile(demand.of_pairs(vectors, cells, guide.rows[there]), 1 - kept))


def _with_last(vectors: Vectors) -> Vectors:
    """Titles with −1 beside them, so that their product with (q, τ) is the margin."""
    return np.concatenate([vectors, np.full((len(vectors), 1), -1, dtype=np.float32)], axis=1)


def _centres(queries: Vectors, cells: int, seed: int) -> Vectors:
    kmeans = faiss.Kmeans(
        queries.shape[1], cells, niter=_ROUNDS, spherical=True, seed=seed + 1, min_points_per_centroid=1
    )
    kmeans.train(queries)
    centres: Vectors = kmeans.centroids
    return centres
