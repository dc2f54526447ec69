"""Which titles can be among the k best at all: every score is computed, few are looked at twice.

Titles go by in tiles, tile j being every T-th title from the j-th on, so that each is a fair sample, and the
scores of a tile stay in the cache. The first tiles tell which bar about k titles will reach; of the others
only what reaches it is kept. Where chance had the bar too high, too few are found, which shows, and the
query has to be answered by looking at everything.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieval.filters import Filter
from retrieval.vectors import Mask, Rows, Scores, Vectors

QUERIES = 256
"""Queries at a time."""
_TILE = 1 << 18  # scores at a time: 1 MiB, the level-2 cache of a core
_LEAST = 8  # with fewer tiles there is nothing to sample
_GROUP = 4
Pairs = tuple[Rows, Rows, Scores]
"""Query, row and float32 score of each pair (p,)."""
Floats = npt.NDArray[np.float64]


def pays(queries: int, titles: int, k: int) -> bool:
    """Whether there are enough titles to tell by a sample what the k-th best scores."""
    return titles >= 32 * k and _tiles(queries, titles) >= _LEAST


def _tiles(queries: int, titles: int) -> int:
    return max(1, math.ceil(titles * queries / _TILE))


@dataclass(frozen=True)
class Screen:
    """Titles (n, d), some queries (q, d), how many each wants, and what may not be returned."""

    vectors: Vectors
    queries: Vectors
    k: int
    wanted: Filter

    def pairs(self, slack: Floats) -> tuple[Rows, Rows, Mask]:
        """All (query, row) that can be among the k best where float32 products err by up to half of `slack` (q,).

        Sorted by query. With them the queries (q,) for which the bar was too high, of which nothing can be said.
        """
        first = max(1, round(self.tiles * min(1 / 8, max(1 / 32, self.k / 800))))
        opening = [self._scores(tile).copy() for tile in range(first)]
        bar = _bar(opening, self.k / len(self.vectors))[:, None]
        found = [self._reaching(scores, bar, tile) for tile, scores in enumerate(opening)]
        found += [self._reaching(self._scores(tile), bar, tile) for tile in range(first, self.tiles)]
        query, row, score = (np.concatenate(part) for part in zip(*found, strict=True))
        return self._narrowed((query, row, score), bar[:, 0], slack)

    @cached_property
    def tiles(self) -> int:
        """Into how many tiles the titles are cut."""
        return _tiles(len(self.queries), len(self.vectors))

    @cached_property
    def _space(self) -> Scores:
        return np.empty(len(self.queries) * -(-len(self.vectors) // self.tiles), dtype=np.float32)

    @cached_property
    def _mask(self) -> Mask:
        return np.empty(self._space.size, dtype=np.bool_)

    @cached_property
    def _hidden(self) -> list[tuple[Rows, Rows]]:
        """What is excluded in each tile, as (query, place in the tile)."""
        query, row = self.wanted.pairs
        order = np.argsort((row % self.tiles).astype(np.uint16), kind="stable")
        ends = np.searchsorted((row % self.tiles)[order], np.arange(1, self.tiles))
        return list(zip(np.split(query[order], ends), np.split(row[order] // self.tiles, ends), strict=True))

    def _scores(self, tile: int) -> Scores:
        """Scores (q, w) of one tile, −inf for what is forbidden; overwritten by the next."""
        some = self.vectors[tile :: self.tiles]
        space = self._space[: len(self.queries) * len(some)].reshape(len(self.queries), len(some))
        scores: Scores = np.matmul(self.queries, some.T, out=space)
        if self.wanted.allowed is not None:
            scores[:, ~self.wanted.allowed[tile :: self.tiles]] = -np.inf
        if self.wanted.excluded:
            scores[self._hidden[tile]] = -np.inf
        return scores

    def _reaching(self, scores: Scores, bar: Scores, tile: int) -> Pairs:
        # into the same memory for every tile, because fresh pages cost as much as the comparison
        mask = np.greater_equal(scores, bar, out=self._mask[: scores.size].reshape(scores.shape))
        place, width = places(mask), scores.shape[1]
        query = place // width
        return query, (place - query * width) * self.tiles + tile, scores.ravel()[place]

    def _narrowed(self, pairs: Pairs, bar: Scores, slack: Floats) -> tuple[Rows, Rows, Mask]:
        query, row, score = pairs
        order = np.argsort((query << 32) + descending(score))
        query, row, score = query[order], row[order], score[order]
        count = np.bincount(query, minlength=len(self.queries))
        last = np.minimum(np.cumsum(count) - count + self.k, np.maximum(np.cumsum(count), 1)) - 1
        least = score[last] - slack if len(score) else bar.astype(np.float64)
        failed = (count < self.k) | (least < bar)
        kept = score >= np.repeat(least.astype(np.float32), count)
        return query[kept], row[kept], failed


def descending(scores: Scores) -> npt.NDArray[np.int64]:
    """Whole numbers from −2³¹ to 2³¹ − 1 that descend as float32 scores ascend, and are equal where those are."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding zero turns −0 into 0
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)


def places(mask: Mask) -> Rows:
    """`np.flatnonzero`, for masks that are nearly all false: eight entries are passed over at a time."""
    flat = mask.ravel()
    whole = len(flat) // 8 * 8
    words = flat[:whole].view(np.uint64)
    word = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[word].view(np.bool_))
    found = word[inside >> 3] * 8 + (inside & 7)
    return np.concatenate([found, whole + np.flatnonzero(flat[whole:])]) if whole < len(flat) else found


def _bar(opening: list[Scores], share: float) -> Scores:
    """A score (q,) that a little more than `share` of all titles should reach, judged by the first tiles."""
    size = sum(scores.shape[1] for scores in opening)
    expected = share * size
    rank = min(size, math.ceil(expected + 2.5 * math.sqrt(expected) + 3))
    tops = [_maxima(scores, rank) for scores in opening]
    best = np.concatenate(tops, axis=1)
    place = max(0, best.shape[1] - rank)
    return np.maximum(np.partition(best, place, axis=1)[:, place], np.finfo(np.float32).min)


def _maxima(scores: Scores, rank: int) -> Scores:
    """Maxima of disjoint groups, of which the best few are nearly the best few scores, and quicker to find."""
    columns = scores.shape[1] // _GROUP
    if columns < 2 * rank:
        return scores
    rest = scores[:, columns * _GROUP :]
    tops = scores[:, : columns * _GROUP].reshape(len(scores), _GROUP, columns).max(axis=1)
    return np.concatenate([tops, rest], axis=1)
