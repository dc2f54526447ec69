"""Which titles can be among the k best at all: every score is computed, few are looked at twice.

Titles go by in tiles; tile j is every T-th title from the j-th on, so that each is a fair sample of all. The k-th best
of the maxima of disjoint groups of titles is a lower bound of the k-th best score, nearly as high and much cheaper to
find. It rises as tiles go by, and only what reaches it is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieval.filters import Filter
from retrieval.marks import places, seats
from retrieval.vectors import Mask, Rows, Scores, Vectors, lengths

Floats = npt.NDArray[np.float64]
Pairs = tuple[Rows, Rows]
"""Query and row of each pair (p,)."""
Found = tuple[Rows, Rows, Scores]
"""Query, row and score of each pair (p,)."""
_GROUP = 16
_LEAST = float(np.finfo(np.float32).min)
_ROUNDOFF = float(np.finfo(np.float32).eps) / 2


def rounding(longest: float, queries: Vectors) -> Floats:
    """A bound (q,) on the error of float32 inner products with vectors no longer than `longest`.

    Twice γ_d·|q|·|v|: Higham 2002, section 3.1.
    """
    bound: Floats = 2 * queries.shape[1] * _ROUNDOFF * longest * lengths(queries)
    return bound


@dataclass(frozen=True)
class Screen:
    """Vectors (n, d) in tiles, the longest of them, queries (q, d), how many each wants, and what none may get."""

    vectors: Vectors
    longest: float
    tiles: int
    queries: Vectors
    k: int
    wanted: Filter

    def pairs(self) -> Pairs:
        """All (query, row) that can be among the k best, sorted by query."""
        found = [self._reaching(scores, limit, tile) for tile, scores, limit in self._passing()]
        if len(found) == 1:
            return found[0][:2]
        query, row, score = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(query.astype(np.uint16), kind="stable")
        query, row, score = query[order], row[order], score[order]
        count = np.bincount(query, minlength=len(self.queries))
        table = np.full((len(count), int(count.max(initial=0))), -np.inf, dtype=np.float32)
        table.ravel()[seats(count, table.shape[1])] = score
        kept = score >= self._limit(_best(table, self.k))[query]
        return query[kept], row[kept]

    def _passing(self) -> Iterator[tuple[int, Scores, Scores]]:
        """Each tile, its scores (q, w), −∞ for what is forbidden, and the limit (q,) that they must reach so far.

        The next tile is written over the scores of the last.
        """
        space = np.empty(len(self.queries) * -(-len(self.vectors) // self.tiles), dtype=np.float32)
        tops = limit = np.zeros((0, 0), dtype=np.float32)
        for tile in range(self.tiles):
            scores = self._allowed(tile, space)
            if _raises(tile):
                maxima = _maxima(scores, self.k)
                tops = _best(np.concatenate([tops, maxima], axis=1) if tile else maxima, self.k)
                limit = self._limit(tops)
            yield tile, scores, limit

    @cached_property
    def _error(self) -> Floats:
        return rounding(self.longest, self.queries)

    @cached_property
    def _mask(self) -> Mask:
        return np.empty(len(self.queries) * -(-len(self.vectors) // self.tiles), dtype=np.bool_)

    @cached_property
    def _hidden(self) -> list[Pairs]:
        """What is excluded in each tile, as (query, place in the tile)."""
        query, row = self.wanted.pairs
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
            return np.full(len(tops), _LEAST, dtype=np.float32)
        least = np.maximum(tops[:, 0].astype(np.float64), _LEAST) - 2.01 * self._error
        near = np.maximum(least, _LEAST).astype(np.float32)
        return np.where(near > least, np.nextafter(near, np.float32(_LEAST)), near)

    def _reaching(self, scores: Scores, limit: Scores, tile: int) -> Found:
        # into the same memory for every tile, because fresh pages cost as much as the comparison
        mask = np.greater_equal(scores, limit[:, None], out=self._mask[: scores.size].reshape(scores.shape))
        place, width = places(mask), scores.shape[1]
        query = place // width
        return query, (place - query * width) * self.tiles + tile, scores.ravel().take(place)


def _raises(tile: int) -> bool:
    """Whether the limit is raised at a tile: at the first, and then whenever twice as many have gone by."""
    return tile & (tile - 1) == 0


def _best(scores: Scores, k: int) -> Scores:
    """The k best of each row of scores (q, w), the least of them first; changes their order."""
    if scores.shape[1] >= k:
        scores.partition(scores.shape[1] - k, axis=1)
    return scores[:, -k:]


def _maxima(scores: Scores, k: int) -> Scores:
    """Maxima of disjoint groups, of which the best few are nearly the best few scores, in memory of their own."""
    group = max(1, min(_GROUP, scores.shape[1] // (4 * k)))
    columns = scores.shape[1] // group
    maxima: Scores = scores[:, : columns * group].reshape(len(scores), group, columns).max(axis=1)
    return maxima
