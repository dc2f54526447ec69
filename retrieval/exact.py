"""The oracle: exact top-k by blocked matrix products, against which every index is judged.

Scores of a block of queries come from float32 products. What can be among the k best, the rounding error of
the product allowed for, is scored again in float64 and only that is sorted. So a score depends
on its two vectors alone, never on the place in a block, and ties are true ties. With many titles
`screening` finds what can be among them; with few, the k-th best of the maxima of disjoint groups of titles
is a lower bound of the k-th best score, and cheap to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from retrieval import screening
from retrieval.config import Metric
from retrieval.filters import Filter
from retrieval.threads import spread
from retrieval.vectors import Mask, Rows, Scores, Vectors, as_vectors, lengths, unit
from stores.errors import UsageError

_BLOCK = 1 << 23  # float32 scores held at a time: 32 MiB
_PAIRS = 1 << 9  # pairs scored again at a time, so that they stay in the cache
_GROUP = 16
_SPARSE = 0.5  # with a smaller share allowed, only those titles are multiplied
_LARGEST = float(np.finfo(np.float32).max)
_ROUNDOFF = float(np.finfo(np.float32).eps) / 2


@dataclass(frozen=True)
class Titles:
    """Vectors (n, d) prepared for exact search; `rank` (n,) orders ties, None means by row."""

    vectors: Vectors
    longest: float
    rank: Rows | None = None

    @classmethod
    def of(cls, vectors: Vectors, rank: Rows | None = None) -> "Titles":
        """Checked float32 vectors (n, d), with the longest measured once.

        Vectors in a mapped file that do not lie on a float's boundary are copied here, once: NumPy would copy all
        of them for every product.
        """
        vectors = np.require(vectors, requirements=["ALIGNED"])
        return cls(vectors, float(lengths(vectors).max(initial=0.0)), rank)

    def take(self, rows: Rows) -> "Titles":
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

    def answer(start: int) -> None:
        part = slice(start, start + screening.QUERIES)
        rows[part], scores[part] = _block(titles, queries[part], k, wanted.part(part))

    spread(answer, range(0, len(queries) if len(titles) else 0, screening.QUERIES))
    return rows, scores


def refuse_overflow(titles: Titles, queries: Vectors) -> None:
    """Raise UsageError where an inner product could leave float32."""
    longest = float(lengths(queries).max(initial=0.0))
    if longest * titles.longest > _LARGEST:
        raise UsageError(
            f"scores could overflow float32: a query of length {longest:.3g}, a vector of length {titles.longest:.3g}",
            expected=f"a product of at most {_LARGEST:.3g}",
        )


def _block(titles: Titles, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    if not screening.pays(len(queries), len(titles), k):
        return _whole(titles, queries, k, wanted)
    slack = rounding(titles, queries)
    query, row, failed = screening.Screen(titles.vectors, queries, k, wanted).pairs(slack)
    rows, scores = best_pairs(titles, queries, k, (query, row))
    again = np.flatnonzero(failed)
    if len(again):
        rows[again], scores[again] = _whole(titles, queries[again], k, wanted.take(again))
    return rows, scores


def _whole(titles: Titles, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """All scores at once; for few titles, and for queries that screening could not answer."""
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    step = max(1, _BLOCK // max(1, len(titles)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        some, allowed = queries[part], wanted.part(part)
        scores = some @ titles.vectors.T
        allowed.hide(scores)
        floor = _kth_best(scores, k) - rounding(titles, some)
        floor = np.maximum(floor, -_LARGEST).astype(np.float32)  # −inf is what may not be returned
        pairs = np.divmod(np.flatnonzero(scores >= floor[:, None]), len(titles))
        rows[part], best[part] = best_pairs(titles, some, k, (pairs[0], pairs[1]))
    return rows, best


def rounding(titles: Titles, queries: Vectors) -> npt.NDArray[np.float64]:
    """Twice a bound (q,) on the error of float32 inner products: γ_d·|q|·|v|, Higham 2002, section 3.1."""
    bound: npt.NDArray[np.float64] = 4 * queries.shape[1] * _ROUNDOFF * titles.longest * lengths(queries)
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

    Pairs come sorted by query.
    """
    query, row = pairs
    count = np.bincount(query, minlength=len(queries))
    place = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
    rows = np.full((len(queries), max(k, int(count.max(initial=0)))), -1, dtype=np.int64)
    rows[query, place] = row
    scores = _scores_of(titles.vectors, queries, rows)
    keys = screening.descending(scores) << 32 | (rows if titles.rank is None else titles.rank[rows])
    keys[rows < 0] = np.iinfo(np.int64).max
    best = np.argsort(keys, axis=1)[:, :k]
    return np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)


def _scores_of(vectors: Vectors, queries: Vectors, rows: Rows) -> Scores:
    """Scores (q, m) of given rows (q, m), −inf where the row is −1.

    Inner products are summed in float64, one at a time, so that each comes out the same wherever it stands.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    if not len(vectors):
        return scores
    wide, step = queries.astype(np.float64)[:, None, :], max(1, _PAIRS // max(1, rows.shape[1]))
    # into the same memory for every part, because fresh pages cost as much as the sums
    taken = np.empty((step * rows.shape[1], vectors.shape[1]), dtype=np.float32)
    widened = np.empty(taken.shape, dtype=np.float64)
    for start in range(0, len(queries), step):
        part = rows[start : start + step]
        np.take(vectors, part.ravel(), axis=0, out=taken[: part.size], mode="clip")  # −1 is set right below
        np.copyto(widened[: part.size], taken[: part.size])
        scores[start : start + step] = np.vecdot(
            widened[: part.size].reshape(*part.shape, -1), wide[start : start + step]
        )
    scores[rows < 0] = -np.inf
    return scores
