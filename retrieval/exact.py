"""The oracle: exact top-k by blocked matrix products, against which every index is judged.

A screen looks through the scores of float32 products for what can be among the k best, errors allowed for. That is
scored again in float64 and only that is sorted. So a score depends on its two vectors alone, never on the place in a
block, and ties are true ties.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from retrieval import screening
from retrieval.arguments import as_array, as_k, as_mask, short
from retrieval.config import Metric
from retrieval.filters import Filter
from retrieval.marks import descending, seats
from retrieval.screening import Screen
from retrieval.threads import spread, threads
from retrieval.vectors import Mask, Rows, Scores, Vectors, as_vectors, lengths, unit
from stores.errors import UsageError

_TILE = 1 << 23  # bytes of scores at a time; larger ones leave the cache that cores share
_QUERIES = 256  # at a time
_SETTLED = 2048  # queries of which pairs are scored again in one go, while titles are in the cache
_TABLE = 1 << 20  # pairs in one table
_PAIRS = 1 << 11  # pairs scored again at a time, so that they stay in the cache
_SPARSE = 0.5  # with a smaller share allowed, only those titles are multiplied
_MANY = 1 << 12  # titles that pay for compiled loops
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Titles:
    """Vectors (n, d) prepared for exact search; `rank` (n,) orders ties, None means by row.

    With `compiled`, many queries of many titles go through compiled loops. What is found is the same, but that a
    score may differ by its last bit, since float64 sums are taken in another order: none of four million did.
    """

    vectors: Vectors
    longest: float
    rank: Rows | None = None
    compiled: bool = False

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
        rank = rows if self.rank is None else self.rank[rows]
        return Titles(self.vectors[rows], self.longest, rank, self.compiled)

    def screen(self, tiles: int, queries: Vectors, k: int, wanted: Filter) -> Screen:
        """What looks through the titles for some queries."""
        return Screen(self.vectors, self.longest, tiles, queries, k, wanted)

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
    wanted = Filter(None if allowed is None else as_mask(allowed, len(base)), _rows_of(exclude, len(asked), len(base)))
    return top_k(Titles.of(base), asked, as_k(k, len(base)), wanted)


def _rows_of(exclude: Any, queries: int, titles: int) -> list[Rows] | None:
    """Rows to leave out, one array for each query. Raises UsageError for other kinds and for rows out of range."""
    if exclude is None:
        return None
    if not isinstance(exclude, (Sequence, np.ndarray)) or isinstance(exclude, str) or len(exclude) != queries:
        raise UsageError(
            f"exclude is {short(exclude)}", expected=f"one array of rows for each of the {queries} queries"
        )
    lists = [as_array(rows, "a list in exclude", "an array of rows") for rows in exclude]
    for rows in lists:
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise UsageError(f"a list in exclude is {rows.dtype} of shape {rows.shape}", expected="whole numbers (m,)")
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < titles:
            raise UsageError(f"exclude names row {rows.min()} to {rows.max()}", expected=f"rows from 0 to {titles - 1}")
    return [rows.astype(np.int64) for rows in lists]


def refuse_metric(metric: str) -> None:
    """Raise UsageError for a metric that does not exist."""
    if not isinstance(metric, str) or metric not in get_args(Metric):
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
    pays = titles.compiled and len(queries) >= _QUERIES and len(titles) >= max(_MANY, 32 * k)
    way, together = _sifted if pays else _screened, _together(len(queries))

    def answer(start: int) -> None:
        part = slice(start, start + together)
        rows[part], scores[part] = way(titles, queries[part], k, wanted.part(part))

    spread(answer, range(0, len(queries) if len(titles) else 0, together))
    return rows, scores


def _together(queries: int) -> int:
    """How many queries are settled in one go, so that every thread has some."""
    step = min(_QUERIES, max(1, queries))
    return min(_SETTLED, step * max(1, -(-queries // (step * threads()))))


def _screened(titles: Titles, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """The k best by NumPy's passes."""
    found, step = [], min(_QUERIES, len(queries))
    tiles = max(1, math.ceil(step * len(titles) * 4 / _TILE))
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        query, row = titles.screen(tiles, queries[part], k, wanted.part(part)).pairs()
        found.append((query + first, row))
    query, row = (np.concatenate(part) for part in zip(*found, strict=True))
    return best_pairs(titles, queries, k, (query, row))


def _sifted(titles: Titles, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """The k best by compiled loops, and by NumPy for those whose k best these cannot be sure of."""
    from retrieval import sifting  # what it loads takes longer than a command that looks may

    found = []
    for first in range(0, len(queries), sifting.QUERIES):
        part = slice(first, first + sifting.QUERIES)
        found.append(sifting.Sieve(titles.vectors, titles.longest, queries[part], k, wanted.part(part)).listed())
    best = _ranked(titles, *sifting.settled(titles.vectors, queries, found, k), k)
    unsure = np.flatnonzero(np.concatenate([count for _, count in found]) < 0)
    if len(unsure):
        best[0][unsure], best[1][unsure] = _screened(titles, queries[unsure], k, wanted.take(unsure))
    return best


def refuse_overflow(titles: Titles, queries: Vectors) -> None:
    """Raises UsageError where an inner product could leave float32."""
    longest = float(lengths(queries).max(initial=0.0))
    if longest * titles.longest > _LARGEST:
        raise UsageError(
            f"scores could overflow float32: a query of length {longest:.3g}, a vector of length {titles.longest:.3g}",
            expected=f"a product of at most {_LARGEST:.3g}",
        )


def rounding(titles: Titles, queries: Vectors) -> npt.NDArray[np.float64]:
    """Twice a bound (q,) on the error of float32 inner products."""
    return 2 * screening.rounding(titles.longest, queries)


def best_pairs(titles: Titles, queries: Vectors, k: int, pairs: tuple[Rows, Rows]) -> tuple[Rows, Scores]:
    """The k best of given (query, row) pairs, scored exactly: rows (q, k) and scores (q, k), ties by rank.

    Pairs come sorted by query.
    """
    query, row = pairs
    count = np.bincount(query, minlength=len(queries))
    width, middle = max(k, int(count.max(initial=0))), len(queries) // 2
    if middle and len(queries) * width > _TABLE:  # one to whom all titles are the same would widen the table of all
        cut = int(np.searchsorted(query, middle))
        upper = best_pairs(titles, queries[:middle], k, (query[:cut], row[:cut]))
        lower = best_pairs(titles, queries[middle:], k, (query[cut:] - middle, row[cut:]))
        return np.concatenate([upper[0], lower[0]]), np.concatenate([upper[1], lower[1]])
    rows = np.full((len(queries), width), -1, dtype=np.int64)
    rows.ravel()[seats(count, width)] = row
    return _ranked(titles, rows, _scores_of(titles.vectors, queries, rows, count), k)


def _ranked(titles: Titles, rows: Rows, scores: Scores, k: int) -> tuple[Rows, Scores]:
    """The k best of rows (q, w), −1 where there are no more, by scores (q, w), then by rank."""
    keys = descending(scores) << 32 | (rows if titles.rank is None else titles.rank[rows])
    keys[rows < 0] = np.iinfo(np.int64).max
    best = np.argsort(keys, axis=1)[:, :k] + np.arange(len(rows))[:, None] * rows.shape[1]
    return rows.ravel().take(best), scores.ravel().take(best)


def _scores_of(vectors: Vectors, queries: Vectors, rows: Rows, count: Rows) -> Scores:
    """Scores (q, m) of given rows (q, m), −inf where the row is −1, of which each query has `count` (q,) at first.

    Inner products are summed in float64, one at a time, so that each comes out the same wherever it stands.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    step = max(1, _PAIRS // max(1, rows.shape[1]))
    # into the same memory for every part, because fresh pages cost as much as the sums
    taken = np.empty((step * rows.shape[1], vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(queries) if len(vectors) else 0, step):
        part = slice(start, start + step), slice(int(count[start : start + step].max()))
        some = rows[part]
        np.take(vectors, some.ravel(), axis=0, out=taken[: some.size], mode="clip")  # −1 is set right below
        by_query = taken[: some.size].reshape(*some.shape, vectors.shape[1])
        scores[part] = np.vecdot(by_query, queries[part[0], None], dtype=np.float64)
    scores[rows < 0] = -np.inf
    return scores
