"""Streaming statistics of vectors: one batch at a time, memory that does not grow with the rows.

- Norms go into a histogram of geometric bins (1.1 % wide), which also gives the median and later the
  comparison of two releases.
- The effective rank is `exp(−Σ pᵢ ln pᵢ)` of the covariance's normalised eigenvalues (Roy and
  Vetterli, "The effective rank", 2007): d for an isotropic cloud, 1 for a line, 0 for one point.
- Distinct vectors are counted by the k smallest of their 64-bit hashes (Bar-Yossef and others,
  "Counting distinct elements in a data stream", 2002): exact up to k, then within about 1/√k.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.files.filesystem import Storage

Floats = npt.NDArray[np.float64]

BINS_PER_OCTAVE = 64
OCTAVES = 40
"""Norms from 2⁻⁴⁰ to 2⁴⁰ have their own bins; those outside fall into the first and the last."""
SKETCH_SIZE = 65_536
BATCH_ROWS = 65_536


def batches(storage: Storage, path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one Parquet file in batches of at most `BATCH_ROWS`."""
    with storage.parquet(path) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=columns)


def matrix(column: pa.Array) -> Floats:
    """A column of lists as an `(n, d)` float64 array; rows that are null or of another width are NaN."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    width = list_width(column.type) or int(lengths.max(initial=0))
    out = np.full((len(column), width), np.nan)
    right = lengths == width
    if width and right.any():
        kept = column.filter(pa.array(right))
        out[right] = kept.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return out


def list_width(kind: pa.DataType) -> int | None:
    """The width that a column's type fixes; None for a list of any length."""
    return kind.list_size if pa.types.is_fixed_size_list(kind) else None


class VectorStatistics:
    """What was seen of one table of vectors so far; `add` batches, then read `figures`."""

    def __init__(self) -> None:
        self.rows = self.finite = self.zero = 0
        self.widths: dict[int, int] = {}
        self.not_finite: list[Any] = []
        self._norms = np.zeros(2 * OCTAVES * BINS_PER_OCTAVE, np.int64)
        self._least, self._most = np.inf, 0.0
        self._sum: Floats | None = None
        self._gram: Floats | None = None
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._full = False

    def add(self, ids: pa.Array, x: Floats) -> None:
        """Take in rows `x` of shape (n, d); `ids` name those that are not finite."""
        self.rows += len(x)
        self.widths[x.shape[1]] = self.widths.get(x.shape[1], 0) + len(x)
        good = np.isfinite(x).all(axis=1) & (x.shape[1] > 0)
        if not good.all():
            bad = np.flatnonzero(~good)[: 5 - len(self.not_finite)]
            self.not_finite += ids.take(pa.array(bad)).to_pylist()
            x = x[good]
        self.finite += len(x)
        if len(x):
            self._add_norms(np.sqrt(np.einsum("ij,ij->i", x, x)))
            self._add_moments(x)
            self._add_hashes(x)

    def _add_norms(self, norms: Floats) -> None:
        self.zero += int((norms == 0).sum())
        self._least, self._most = min(self._least, float(norms.min())), max(self._most, float(norms.max()))
        self._norms += np.bincount(norm_bin(norms), minlength=len(self._norms))

    def _add_moments(self, x: Floats) -> None:
        if self._sum is None or self._gram is None:
            self._sum, self._gram = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
        if len(self._sum) == x.shape[1]:  # a second width is reported as such; its moments have no place here
            self._sum += x.sum(axis=0)
            self._gram += x.T @ x

    def _add_hashes(self, x: Floats) -> None:
        seen = np.unique(np.concatenate([self._hashes, row_hashes(x)]))
        self._full = self._full or len(seen) > SKETCH_SIZE
        self._hashes = seen[:SKETCH_SIZE]

    @property
    def distinct(self) -> float:
        """How many different vectors there are; exact up to `SKETCH_SIZE`."""
        if not self._full:
            return float(len(self._hashes))
        return (SKETCH_SIZE - 1) / (float(self._hashes[-1]) / 2.0**64)

    @property
    def effective_rank(self) -> float:
        """The effective rank of the covariance; 0 where all vectors are equal or there are none."""
        if self._gram is None or self._sum is None or not self.finite:
            return 0.0
        mean = self._sum / self.finite
        second = self._gram / self.finite
        values = np.linalg.eigvalsh(second - np.outer(mean, mean))
        # Below the rounding of the second moment there is no spread, only noise of the subtraction.
        values = values[values > 1e-12 * max(float(np.trace(second)), 1e-300)]
        if not len(values):
            return 0.0
        share = values / values.sum()
        return float(np.exp(-(share * np.log(share)).sum()))

    def energy(self) -> list[float]:
        """The share of the second moment in each dimension, in order; it sums to 1."""
        if self._gram is None or not np.trace(self._gram):
            return []
        diagonal = np.diag(self._gram)
        return [round(float(value), 6) for value in diagonal / diagonal.sum()]

    def median_norm(self) -> float | None:
        """The median norm, to the width of a bin."""
        if not self.finite:
            return None
        at = int(np.searchsorted(np.cumsum(self._norms), (self.finite + 1) // 2))
        return float(np.clip(bin_centre(at), self._least, self._most))

    def norm_histogram(self) -> dict[str, Any]:
        """The occupied stretch of the norm histogram: the number of its first bin, and counts."""
        used = np.flatnonzero(self._norms)
        if not len(used):
            return {"first": 0, "counts": []}
        return {"first": int(used[0]), "counts": self._norms[used[0] : used[-1] + 1].tolist()}

    def figures(self) -> dict[str, Any]:
        """Everything as JSON-able figures; a figure that is not defined is None."""
        some = self.finite > 0
        return {
            "rows": self.rows,
            "width": next(iter(self.widths)) if len(self.widths) == 1 else None,
            "widths": len(self.widths),
            "finite_share": self.finite / self.rows if self.rows else None,
            "zero_share": self.zero / self.finite if some else None,
            "norm_min": self._least if some else None,
            "norm_median": self.median_norm(),
            "norm_max": self._most if some else None,
            "duplicate_share": max(0.0, 1.0 - self.distinct / self.finite) if some else None,
            "effective_rank": self.effective_rank,
            "energy": self.energy(),
            "norms": self.norm_histogram(),
            "not_finite_ids": [str(value) for value in self.not_finite],
        }


def norm_bin(norms: Floats) -> npt.NDArray[np.int64]:
    """The geometric bin of each norm."""
    with np.errstate(divide="ignore"):
        place = np.floor((np.log2(norms) + OCTAVES) * BINS_PER_OCTAVE)
    return np.asarray(np.clip(place, 0, 2 * OCTAVES * BINS_PER_OCTAVE - 1), np.int64)


def whole_histogram(stretch: dict[str, Any]) -> npt.NDArray[np.int64]:
    """All bins of a histogram that `norm_histogram` shortened."""
    counts = np.zeros(2 * OCTAVES * BINS_PER_OCTAVE, np.int64)
    counts[stretch["first"] : stretch["first"] + len(stretch["counts"])] = stretch["counts"]
    return counts


def bin_centre(number: float) -> float:
    """The norm in the geometric middle of a bin."""
    return float(2.0 ** ((number + 0.5) / BINS_PER_OCTAVE - OCTAVES))


def row_hashes(x: Floats) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row of `x`: multilinear over its bits, then mixed (Murmur3's finaliser)."""
    bits = np.ascontiguousarray(x + 0.0).view(np.uint64)  # + 0.0 makes −0 and 0 the same
    bits = bits ^ (bits >> np.uint64(32))  # values of float32 origin have empty low halves
    factors = np.random.default_rng(0).integers(1, 2**63, x.shape[1], dtype=np.uint64) | np.uint64(1)
    mixed = (bits * factors).sum(axis=1, dtype=np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return np.asarray(mixed, np.uint64)
