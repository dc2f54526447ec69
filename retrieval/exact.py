"""The oracle: exact top-k by blocked matrix products, against which every index is judged.

Scores of a block of queries come from one float32 product. The k-th best of the maxima of disjoint groups of
titles is a lower bound of the k-th best score, and cheap to find; whatever reaches it, less the
rounding error of the product, is scored again in float64 and only that is sorted. So a score depends
on its two vectors alone, never on the place in a block, and ties are true ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from retrieval.config import Metric
from retrieval.filters import Filter
from retrieval.vectors import Mask, Rows, Scores, Vectors, as_vectors, lengths, unit
from stores.errors import UsageError

_BLOCK = 1 << 23  # float32 scores held at a time: 32 MiB
_PAIRS = 1 << 12  # pairs scored again at a time, so that they stay in the cache
_GROUP = 16
_SPARSE = 0.5  # with a smaller share allowed, only those titles are multiplied
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Titles:
    """Vectors (n, d) prepared for exact search; `rank` (n,) orders ties, None means by row."""

    vectors: Vectors
    longest: float
    rank: Rows | None = None

    @classmethod
    def of(cls, vectors: Vectors, rank: Rows | None = None) -> "Titles":
        """Checked float32 vectors (n, d), with the longest measured once."""
        return cls(vectors, float(lengths(vectors).max(initial=0.0)), rank)

    def take(self, rows: Rows) -> "Titles":
        """Checked float32 vectors (n, d), with the longest measured once."""
        """Some of the titles; ties stay in the same order."""
        return Titles(self.vectors[rows], self.longest, rows if self.rank is None else self.rank[rows])

    def __len__(self) -> int:
        return len(self.vectors)


def search(
    vectors: Any,
    queries: Any,
    k: int,
    metric: Metric,
    allowed: Mask | None = None,
    exclude: Sequence[Rows] | None = None,
) -> tuple[Rows, Scores]:
    """The k best rows of `vectors` (n, d) for each query (q, d): rows (q, k) int64 and scores (q, k) float32.

    Best first, ties by row, −1 and −inf where none is left. `allowed` (n,) is boolean, `exclude` holds
    one array of rows per query. Scores are float64 inner products rounded to float32, of unit-length
    copies for the metric "cosine". Raises UsageError and MismatchError as `as_vectors` does.
    """
    refuse_metric(metric)
    base = as_vectors(vectors, "vector")
    asked = as_vectors(queries, "query", width=base.shape[1])
    if metric == "cosine":
        base, asked = unit(base), unit(asked)
    return top_k(Titles.of(base), asked, k, Filter(allowed, exclude))


def refuse_metric(metric: str) -> None:
    """Raise UsageError for a metric that does not exist."""
    if metric not in get_args(Metric):
        raise UsageError(f"there is no metric {metric!r}", expected=f"one of {', '.join(get_args(Metric))}")


def top_k(titles: Titles, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """`search` on checked float32 input, by inner product; ties by `titles.rank`."""
    refuse_overflow(titles, queries)
    if wanted.allowed is not None and wanted.allowed.sum() < _SPARSE * len(titles):
        chosen = np.flatnonzero(wanted.allowed)
        rows, scores = top_k(titles.take(chosen), queries, k, wanted.within(chosen, len(titles)))
        return np.where(rows >= 0, np.append(chosen, -1)[rows], -1), scores
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    step = max(1, _BLOCK // max(1, len(titles)))
    # one piece of memory for all blocks, because fresh pages cost as much as the product
    space = np.empty((min(step, len(queries)), len(titles)), dtype=np.float32)
    for start in range(0, len(queries) if len(titles) else 0, step):
        part = slice(start, start + step)
        rows[part], scores[part] = _block(titles, queries[part], k, wanted.part(part), space)
    return rows, scores


def refuse_overflow(titles: Titles, queries: Vectors) -> None:
    """Raise UsageError where an inner product could leave float32."""
    longest = float(lengths(queries).max(initial=0.0))
    if longest * titles.longest > _LARGEST:
        raise UsageError(
            f"scores could overflow float32: a query of length {longest:.3g}, a vector of length {titles.longest:.3g}",
            expected=f"a product of at most {_LARGEST:.3g}",
        )


def _block(titles: Titles, queries: Vectors, k: int, wanted: Filter, space: Scores) -> tuple[Rows, Scores]:
    scores = np.matmul(queries, titles.vectors.T, out=space[: len(queries)])
    wanted.hide(scores)
    floor = _kth_best(scores, k) - rounding(titles, queries)
    floor = np.maximum(floor, -_LARGEST).astype(np.float32)  # −inf is what may not be returned
    found = np.flatnonzero(scores >= floor[:, None])
    query, row = np.divmod(found, len(titles))
    return best_pairs(titles, queries, k, (query, row))


def rounding(titles: Titles, queries: Vectors) -> npt.NDArray[np.float64]:
    """Twice a bound (q,) on the error of float32 inner products: γ_d·|q|·|v|, Higham 2002, section 3.1."""
    unit_roundoff = float(np.finfo(np.float32).eps) / 2
    bound: npt.NDArray[np.float64] = 4 * queries.shape[1] * unit_roundoff * titles.longest * lengths(queries)
    return bound


def _kth_best(scores: Scores, k: int) -> npt.NDArray[np.float64]:
    """A lower bound (q,) of the k-th best score of each row of `scores` (q, n); −inf where n ≤ k."""
    count = scores.shape[1]
    if count <= k:
        return np.full(len(scores), -np.inf)
    group = min(_GROUP, count // (4 * k))
    if group > 1:
        columns = count // group
        scores = scores[:, : columns * group].reshape(-1, group, columns).max(axis=1)
    kth = scores.shape[1] - k
    return np.partition(scores, kth, axis=1)[:, kth].astype(np.float64)


def best_pairs(titles: Titles, queries: Vectors, k: int, pairs: tuple[Rows, Rows]) -> tuple[Rows, Scores]:
    """The k best of given (query, row) pairs, scored exactly: rows (q, k) and scores (q, k), ties by rank.

    Pairs come sorted by query, then row.
    """
    query, row = pairs
    if titles.rank is not None:
        order = np.lexsort((titles.rank[row], query))
        query, row = query[order], row[order]
    starts = np.searchsorted(query, np.arange(len(queries) + 1))
    place = np.arange(len(query)) - starts[query]
    shape = len(queries), max(k, int(np.diff(starts).max(initial=0)))
    rows, scores = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32)
    rows[query, place], scores[query, place] = row, _score_pairs(titles.vectors, queries, query, row)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # stable, so that ties stay in the order of rank
    return np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)


def _score_pairs(vectors: Vectors, queries: Vectors, query: Rows, row: Rows) -> Scores:
    scores = np.empty(len(row), dtype=np.float32)
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        left, right = queries[query[part]].astype(np.float64), vectors[row[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, right)
    return scores
