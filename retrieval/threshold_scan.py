"""The top k for many queries: estimate a score threshold from a sample, keep titles above it, then verify the top k.

Titles go by in tiles, each a fair sample of them: every T-th. A threshold that about twice k titles reach is read off
the first; compiled loops list whatever reaches it while the scores of a tile are in the cache. The k-th best of a list
says which titles can be among the k best, errors allowed for; where it does not lie so far above the threshold that all
of those were listed, the estimate was wrong and the query is left to others. Numba takes a second to import: import
this module inside functions.
"""

import math
from dataclasses import dataclass

import numpy as np

from retrieval import topk_numba
from retrieval.filters import Filter
from retrieval.topk_pruning import product_error_bound
from retrieval.vectors import Rows, Scores, Vectors

MAX_QUERIES_PER_SCAN = 256
_TITLES_PER_TILE = 4096  # titles: with fewer the sample says less, and multiplying them takes longer
_OVERSHOOT_FACTOR = 2.5  # standard errors: a bar is too high for one query in a hundred
_SAMPLE_GROUP_SIZE = 8
_MIN_SCORE = np.finfo(np.float32).min


@dataclass(frozen=True)
class ThresholdScan:
    """Vectors (n, d), the longest of them, up to 256 queries (q, d), how many each wants, what none may get."""

    vectors: Vectors
    max_norm: float
    queries: Vectors
    k: int
    wanted: Filter

    def candidate_lists(self) -> tuple[Rows, Rows]:
        """Of each query the rows (q, w) that can be among its k best, and how many (q,); −1 where that is not sure."""
        tiles = max(1, round(len(self.vectors) / _TITLES_PER_TILE))
        space = np.empty(len(self.queries) * -(-len(self.vectors) // tiles), dtype=np.float32)
        scores = self._scores(0, tiles, space)
        bar, expected = self._estimate_threshold(scores)
        rows = np.empty((len(bar), 2 * expected + 64), dtype=np.int64)
        values, count = np.empty(rows.shape, dtype=np.float32), np.zeros(len(bar), dtype=np.int64)
        for tile in range(tiles):
            scores = self._scores(tile, tiles, space) if tile else scores
            topk_numba.collect_above(scores, bar, tile, tiles, rows, values, count)
        self._verify_lists(bar, rows, values, count)
        return rows[:, : max(0, int(count.max()))].copy(), count

    def _scores(self, tile: int, tiles: int, space: Scores) -> Scores:
        """Scores (q, w) of one tile, −∞ for what is forbidden, written into `space`."""
        some = self.vectors[tile::tiles]
        out = space[: len(self.queries) * len(some)].reshape(len(self.queries), len(some))
        scores: Scores = np.matmul(self.queries, some.T, out=out)
        if self.wanted.allowed is not None:
            scores[:, ~self.wanted.allowed[tile::tiles]] = -np.inf
        if self.wanted.excluded:
            topk_numba.mask_excluded(scores, tile, tiles, *self.wanted.flat_exclusions)
        return scores

    def _estimate_threshold(self, sample: Scores) -> tuple[Scores, int]:
        """A bar for each query (q,), and how many titles are expected to reach it.

        m titles are expected above the s-th best of a sample of one in m / s, with a relative error of s^-1/2.
        """
        share = sample.shape[1] / len(self.vectors)
        place = math.ceil((_OVERSHOOT_FACTOR / 2 + math.sqrt(_OVERSHOOT_FACTOR**2 / 4 + self.k * share)) ** 2)
        group = max(1, min(_SAMPLE_GROUP_SIZE, sample.shape[1] // (8 * place)))
        columns = sample.shape[1] // group
        maxima = sample[:, : columns * group].reshape(len(sample), group, columns).max(axis=1)
        maxima.partition(columns - place, axis=1)
        return np.maximum(maxima[:, columns - place], _MIN_SCORE), math.ceil(place / share)

    def _verify_lists(self, bar: Scores, rows: Rows, values: Scores, count: Rows) -> None:
        """Leave in each list what can be among the k best; mark those that may lack some."""
        width = max(self.k, int(count.max()))
        table = np.where(np.arange(width) < count[:, None], values[:, :width], np.float32(-np.inf))
        table.partition(width - self.k, axis=1)
        limit = table[:, width - self.k] - 2.01 * product_error_bound(self.max_norm, self.queries)
        with np.errstate(over="ignore"):  # what is lower than all numbers is lower than the bar
            below = np.nextafter(limit.astype(np.float32), np.float32(-np.inf))
        count[(count < self.k) | (below < bar)] = -1
        topk_numba.drop_below(below, rows, values, count)


def rescore_lists(vectors: Vectors, queries: Vectors, found: list[tuple[Rows, Rows]], k: int) -> tuple[Rows, Scores]:
    """Rows (q, w ≥ k) of all lists, −1 where there are no more, and their float64 sums as float32."""
    count = np.concatenate([each for _, each in found])
    rows = np.full((len(count), max(k, int(count.max()))), -1, dtype=np.int64)
    first = 0
    for some, _ in found:
        rows[first : first + len(some), : some.shape[1]] = some
        first += len(some)
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    topk_numba.rescore(vectors, queries.astype(np.float64), rows, count, scores)
    rows[np.arange(rows.shape[1]) >= count[:, None]] = -1
    return rows, scores
