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

from retrieval import topk_pruning
from retrieval.arguments import abbreviate, as_array, as_k, as_mask
from retrieval.config import Metric
from retrieval.filters import Filter
from retrieval.threads import map_threads, num_threads
from retrieval.topk_pruning import ExactScan, list_positions, sort_keys
from retrieval.vectors import Mask, Rows, Scores, Vectors, as_vectors, lengths, unit
from stores.errors import UsageError

_TILE_CELLS = 1 << 23  # bytes of scores at a time; larger ones leave the cache that cores share
_QUERIES_PER_BLOCK = 256  # at a time
_MAX_RESCORED_ROWS = 2048  # queries of which pairs are scored again in one go, while titles are in the cache
_MAX_TABLE_CELLS = 1 << 20  # pairs in one table
_PAIRS_PER_BLOCK = 1 << 11  # pairs scored again at a time, so that they stay in the cache
_DENSE_FILTER_SHARE = 0.5  # with a smaller share allowed, only those titles are multiplied
_MIN_TITLES_FOR_SCAN = 1 << 12  # titles that pay for compiled loops
_MAX_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TitleVectors:
    """Vectors (n, d) prepared for exact search; `rank` (n,) orders ties, None means by row.

    With `compiled`, many queries of many titles go through compiled loops. What is found is the same, but that a
    score may differ by its last bit, since float64 sums are taken in another order: none of four million did.
    """

    vectors: Vectors
    max_norm: float
    rank: Rows | None = None
    compiled: bool = False

    @classmethod
    def of(cls, vectors: Vectors, rank: Rows | None = None) -> "TitleVectors":
        """Checked float32 vectors (n, d), with the longest measured once.

        Vectors in a mapped file that do not lie on a float's boundary are copied here, once: NumPy would copy all
        of them for every product.
        """
        vectors = np.require(vectors, requirements=["ALIGNED"])
        return cls(vectors, float(lengths(vectors).max(initial=0.0)), rank)

    def take(self, rows: Rows) -> "TitleVectors":
        """Some of the titles; ties stay in the same order."""
        rank = rows if self.rank is None else self.rank[rows]
        return TitleVectors(self.vectors[rows], self.max_norm, rank, self.compiled)

    def exact_scan(self, tiles: int, queries: Vectors, k: int, wanted: Filter) -> ExactScan:
        """What looks through the titles for some queries."""
        return ExactScan(self.vectors, self.max_norm, tiles, queries, k, wanted)

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
    return top_k(TitleVectors.of(base), asked, as_k(k, len(base)), wanted)


def _rows_of(exclude: Any, queries: int, titles: int) -> list[Rows] | None:
    """Rows to leave out, one array for each query. Raises UsageError for other kinds and for rows out of range."""
    if exclude is None:
        return None
    if not isinstance(exclude, (Sequence, np.ndarray)) or isinstance(exclude, str) or len(exclude) != queries:
        raise UsageError(
            f"exclude is {abbreviate(exclude)}", expected=f"one array of rows for each of the {queries} queries"
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


def top_k(titles: TitleVectors, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """`search` on checked float32 input, by inner product; ties by `titles.rank`."""
    refuse_overflow(titles, queries)
    if wanted.allowed is not None and wanted.allowed.sum() < _DENSE_FILTER_SHARE * len(titles):
        chosen = np.flatnonzero(wanted.allowed)
        rows, scores = top_k(titles.take(chosen), queries, k, wanted.restricted_to(chosen, len(titles)))
        return np.where(rows >= 0, np.append(chosen, -1)[rows], -1), scores
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    pays = titles.compiled and len(queries) >= _QUERIES_PER_BLOCK and len(titles) >= max(_MIN_TITLES_FOR_SCAN, 32 * k)
    way, together = _top_k_numba if pays else _top_k_numpy, _queries_per_batch(len(queries))

    def answer(start: int) -> None:
        part = slice(start, start + together)
        rows[part], scores[part] = way(titles, queries[part], k, wanted.slice(part))

    map_threads(answer, range(0, len(queries) if len(titles) else 0, together))
    return rows, scores


def _queries_per_batch(queries: int) -> int:
    """How many queries are settled in one go, so that every thread has some."""
    step = min(_QUERIES_PER_BLOCK, max(1, queries))
    return min(_MAX_RESCORED_ROWS, step * max(1, -(-queries // (step * num_threads()))))


def _top_k_numpy(titles: TitleVectors, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """The k best by NumPy's passes."""
    found, step = [], min(_QUERIES_PER_BLOCK, len(queries))
    tiles = max(1, math.ceil(step * len(titles) * 4 / _TILE_CELLS))
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        query, row = titles.exact_scan(tiles, queries[part], k, wanted.slice(part)).surviving_pairs()
        found.append((query + first, row))
    query, row = (np.concatenate(part) for part in zip(*found, strict=True))
    return best_pairs(titles, queries, k, (query, row))


def _top_k_numba(titles: TitleVectors, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
    """The k best by compiled loops, and by NumPy for those whose k best these cannot be sure of."""
    from retrieval import threshold_scan  # Numba takes a second to import

    found = []
    for first in range(0, len(queries), threshold_scan.MAX_QUERIES_PER_SCAN):
        part = slice(first, first + threshold_scan.MAX_QUERIES_PER_SCAN)
        found.append(
            threshold_scan.ThresholdScan(
                titles.vectors, titles.max_norm, queries[part], k, wanted.slice(part)
            ).candidate_lists()
        )
    best = _sort_by_score(titles, *threshold_scan.rescore_lists(titles.vectors, queries, found, k), k)
    unsure = np.flatnonzero(np.concatenate([count for _, count in found]) < 0)
    if len(unsure):
        best[0][unsure], best[1][unsure] = _top_k_numpy(titles, queries[unsure], k, wanted.take(unsure))
    return best


def refuse_overflow(titles: TitleVectors, queries: Vectors) -> None:
    """Raises UsageError where an inner product could leave float32."""
    longest = float(lengths(queries).max(initial=0.0))
    if longest * titles.max_norm > _MAX_FLOAT32:
        raise UsageError(
            f"scores could overflow float32: a query of length {longest:.3g}, a vector of length {titles.max_norm:.3g}",
            expected=f"a product of at most {_MAX_FLOAT32:.3g}",
        )


def score_error_bound(titles: TitleVectors, queries: Vectors) -> npt.NDArray[np.float64]:
    """Twice a bound (q,) on the error of float32 inner products."""
    return 2 * topk_pruning.product_error_bound(titles.max_norm, queries)


def best_pairs(titles: TitleVectors, queries: Vectors, k: int, pairs: tuple[Rows, Rows]) -> tuple[Rows, Scores]:
    """The k best of given (query, row) pairs, scored exactly: rows (q, k) and scores (q, k), ties by rank.

    Pairs come sorted by query.
    """
    query, row = pairs
    count = np.bincount(query, minlength=len(queries))
    width, middle = max(k, int(count.max(initial=0))), len(queries) // 2
    if (
        middle and len(queries) * width > _MAX_TABLE_CELLS
    ):  # one to whom all titles are the same would widen the table of all
        cut = int(np.searchsorted(query, middle))
        upper = best_pairs(titles, queries[:middle], k, (query[:cut], row[:cut]))
        lower = best_pairs(titles, queries[middle:], k, (query[cut:] - middle, row[cut:]))
        return np.concatenate([upper[0], lower[0]]), np.concatenate([upper[1], lower[1]])
    rows = np.full((len(queries), width), -1, dtype=np.int64)
    rows.ravel()[list_positions(count, width)] = row
    return _sort_by_score(titles, rows, _score_rows(titles.vectors, queries, rows, count), k)


def _sort_by_score(titles: TitleVectors, rows: Rows, scores: Scores, k: int) -> tuple[Rows, Scores]:
    """The k best of rows (q, w), −1 where there are no more, by scores (q, w), then by rank."""
    keys = sort_keys(scores) << 32 | (rows if titles.rank is None else titles.rank[rows])
    keys[rows < 0] = np.iinfo(np.int64).max
    best = np.argsort(keys, axis=1)[:, :k] + np.arange(len(rows))[:, None] * rows.shape[1]
    return rows.ravel().take(best), scores.ravel().take(best)


def _score_rows(vectors: Vectors, queries: Vectors, rows: Rows, count: Rows) -> Scores:
    """Scores (q, m) of given rows (q, m), −inf where the row is −1, of which each query has `count` (q,) at first.

    Inner products are summed in float64, one at a time, so that each comes out the same wherever it stands.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    step = max(1, _PAIRS_PER_BLOCK // max(1, rows.shape[1]))
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
