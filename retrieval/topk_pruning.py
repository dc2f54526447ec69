"""Prune a top-k search: bounds on float32 products, and which titles can still be among the best."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieval.filters import Filter
from retrieval.vectors import Mask, Rows, Scores, Vectors, lengths


def true_positions(mask: Mask) -> Rows:
    """`np.flatnonzero`, for masks that are nearly all false: eight entries are passed over at a time."""
    flat = mask.ravel()
    whole = len(flat) // 8 * 8
    words = flat[:whole].view(np.uint64)
    word = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(word).view(np.bool_))
    found = word.take(inside >> 3)
    found <<= 3
    found += inside & 7
    return np.concatenate([found, whole + np.flatnonzero(flat[whole:])]) if whole < len(flat) else found


def list_positions(count: Rows, width: int) -> Rows:
    """The flat places in a table (q, width) of lists that follow one another, the i-th of them `count[i]` long."""
    start = np.arange(len(count)) * width - np.cumsum(count) + count
    return np.arange(count.sum()) + np.repeat(start, count)


def sort_keys(scores: Scores) -> npt.NDArray[np.int64]:
    """Whole numbers from −2³¹ to 2³¹ − 1 that descend as float32 scores ascend, and are equal where those are."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding zero turns −0 into 0
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)


Floats = npt.NDArray[np.float64]
Pairs = tuple[Rows, Rows]
"""Query and row of each pair (p,)."""
Found = tuple[Rows, Rows, Scores]
"""Query, row and score of each pair (p,)."""
_SCAN_GROUP_SIZE = 16
_MIN_FLOAT32 = float(np.finfo(np.float32).min)
_ROUNDOFF = float(np.finfo(np.float32).eps) / 2


def product_error_bound(longest: float, queries: Vectors) -> Floats:
    """A bound (q,) on the error of float32 inner products with vectors no longer than `longest`.

    Twice γ_d·|q|·|v|: Higham 2002, section 3.1.
    """
    bound: Floats = 2 * queries.shape[1] * _ROUNDOFF * longest * lengths(queries)
    return bound


@dataclass(frozen=True)
class ExactScan:
    """Vectors (n, d) in tiles, the longest of them, queries (q, d), how many each wants, and what none may get."""

    vectors: Vectors
    max_norm: float
    tiles: int
    queries: Vectors
    k: int
    wanted: Filter

    def surviving_pairs(self) -> Pairs:
        """All (query, row) that can be among the k best, sorted by query."""
        found = [self._above_limit(scores, limit, tile) for tile, scores, limit in self._scored_tiles()]
        if len(found) == 1:
            return found[0][:2]
        query, row, score = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(query.astype(np.uint16), kind="stable")
        query, row, score = query[order], row[order], score[order]
        count = np.bincount(query, minlength=len(self.queries))
        table = np.full((len(count), int(count.max(initial=0))), -np.inf, dtype=np.float32)
        table.ravel()[list_positions(count, table.shape[1])] = score
        kept = score >= self._limit(_top_scores(table, self.k))[query]
        return query[kept], row[kept]

    def _scored_tiles(self) -> Iterator[tuple[int, Scores, Scores]]:
        """Each tile, its scores (q, w), −∞ for what is forbidden, and the limit (q,) that they must reach so far.

        The next tile is written over the scores of the last.
        """
        space = np.empty(len(self.queries) * -(-len(self.vectors) // self.tiles), dtype=np.float32)
        tops = limit = np.zeros((0, 0), dtype=np.float32)
        for tile in range(self.tiles):
            scores = self._allowed(tile, space)
            if _updates_limit(tile):
                maxima = _group_maxima(scores, self.k)
                tops = _top_scores(np.concatenate([tops, maxima], axis=1) if tile else maxima, self.k)
                limit = self._limit(tops)
            yield tile, scores, limit

    @cached_property
    def _error(self) -> Floats:
        return product_error_bound(self.max_norm, self.queries)

    @cached_property
    def _mask(self) -> Mask:
        return np.empty(len(self.queries) * -(-len(self.vectors) // self.tiles), dtype=np.bool_)

    @cached_property
    def _hidden(self) -> list[Pairs]:
        """What is excluded in each tile, as (query, place in the tile)."""
        query, row = self.wanted.exclusion_pairs
        if self.tiles == 1:
            return [(query, row)]
        place, tile = np.divmod(row, self.tiles)
        order = np.argsort(tile.astype(np.min_scalar_type(self.tiles)), kind="stable")  # bytes sort quickest
        ends = np.searchsorted(tile[order], np.arange(1, self.tiles))
        return list(zip(np.split(query[order], ends), np.split(place[order], ends), strict=True))

    def _allowed(self, tile: int, space: Scores) -> Scores:
        some = self.vectors[tile :: self.tiles]
        out = space[: len(self.queries) * len(some)].reshape(len(self.queries), len(some))
        scores: Scores = np.matmul(self.queries, some.T, out=out)
        if self.wanted.allowed is not None:
            allowed = self.wanted.allowed[tile :: self.tiles]
            np.minimum(scores, np.where(allowed, np.float32(np.inf), np.float32(-np.inf)), out=scores)
        if self.wanted.excluded:
            scores[self._hidden[tile]] = -np.inf
        return scores

    def _limit(self, tops: Scores) -> Scores:
        """What a score must reach (q,) to be, errors allowed for, no less than the k-th best of those so far."""
        if tops.shape[1] < self.k:
            return np.full(len(tops), _MIN_FLOAT32, dtype=np.float32)
        least = np.maximum(tops[:, 0].astype(np.float64), _MIN_FLOAT32) - 2.01 * self._error
        near = np.maximum(least, _MIN_FLOAT32).astype(np.float32)
        return np.where(near > least, np.nextafter(near, np.float32(_MIN_FLOAT32)), near)

    def _above_limit(self, scores: Scores, limit: Scores, tile: int) -> Found:
        # into the same memory for every tile, because fresh pages cost as much as the comparison
        mask = np.greater_equal(scores, limit[:, None], out=self._mask[: scores.size].reshape(scores.shape))
        place, width = true_positions(mask), scores.shape[1]
        query = place // width
        return query, (place - query * width) * self.tiles + tile, scores.ravel().take(place)


def _updates_limit(tile: int) -> bool:
    """Whether the limit is raised at a tile: at the first, and then whenever twice as many have gone by."""
    return tile & (tile - 1) == 0


def _top_scores(scores: Scores, k: int) -> Scores:
    """The k best of each row of scores (q, w), the least of them first; changes their order."""
    if scores.shape[1] >= k:
        scores.partition(scores.shape[1] - k, axis=1)
    return scores[:, -k:]


def _group_maxima(scores: Scores, k: int) -> Scores:
    """Maxima of disjoint groups, of which the best few are nearly the best few scores, in memory of their own."""
    group = max(1, min(_SCAN_GROUP_SIZE, scores.shape[1] // (4 * k)))
    columns = scores.shape[1] // group
    maxima: Scores = scores[:, : columns * group].reshape(len(scores), group, columns).max(axis=1)
    return maxima
