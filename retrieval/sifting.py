"""The k best for many queries: a bar guessed from a sample of the titles, what reaches it, and the proof.

Titles go by in tiles, each a fair sample of them: every T-th. A bar that about twice k titles reach is read off the
first; whatever reaches it is listed by compiled loops while the scores of a tile are in the cache. The k-th best
of a list says which titles can be among the k best, errors allowed for; where it does not lie so far above the bar
that all of those were listed, the guess was wrong and the query is for others to answer.
"""

import math
from dataclasses import dataclass

import numpy as np

from retrieval import compiled
from retrieval.filters import Filter
from retrieval.screening import rounding
from retrieval.vectors import Rows, Scores, Vectors

QUERIES = 256
_TILE = 4096  # titles: with fewer the sample says less, and multiplying them takes longer
_SURE = 2.5  # standard errors: a bar is too high for one query in a hundred
_GROUP = 8
_LEAST = np.finfo(np.float32).min


@dataclass(frozen=True)
class Sieve:
    """Vectors (n, d), the longest of them, up to 256 queries (q, d), how many each wants, what none may get."""

    vectors: Vectors
    longest: float
    queries: Vectors
    k: int
    wanted: Filter

    def listed(self) -> tuple[Rows, Rows]:
        """Of each query the rows (q, w) that can be among its k best, and how many (q,); −1 where that is not sure."""
        tiles = max(1, round(len(self.vectors) / _TILE))
        space = np.empty(len(self.queries) * -(-len(self.vectors) // tiles), dtype=np.float32)
        scores = self._scores(0, tiles, space)
        bar, expected = self._bar(scores)
        rows = np.empty((len(bar), 2 * expected + 64), dtype=np.int64)
        values, count = np.empty(rows.shape, dtype=np.float32), np.zeros(len(bar), dtype=np.int64)
        for tile in range(tiles):
            scores = self._scores(tile, tiles, space) if tile else scores
            compiled.collect(scores, bar, tile, tiles, rows, values, count)
        self._prove(bar, rows, values, count)
        return rows[:, : max(0, int(count.max()))].copy(), count

    def _scores(self, tile: int, tiles: int, space: Scores) -> Scores:
        """Scores (q, w) of one tile, −∞ for what is forbidden, written into `space`."""
        some = self.vectors[tile::tiles]
        out = space[: len(self.queries) * len(some)].reshape(len(self.queries), len(some))
        scores: Scores = np.matmul(self.queries, some.T, out=out)
        if self.wanted.allowed is not None:
            scores[:, ~self.wanted.allowed[tile::tiles]] = -np.inf
        if self.wanted.excluded:
            compiled.strike(scores, tile, tiles, *self.wanted.lists)
        return scores

    def _bar(self, sample: Scores) -> tuple[Scores, int]:
        """A bar for each query (q,), and how many titles are expected to reach it.

        m titles are expected above the s-th best of a sample of one in m / s, with a relative error of s^-1/2.
        """
        share = sample.shape[1] / len(self.vectors)
        place = math.ceil((_SURE / 2 + math.sqrt(_SURE**2 / 4 + self.k * share)) ** 2)
        group = max(1, min(_GROUP, sample.shape[1] // (8 * place)))
        columns = sample.shape[1] // group
        maxima = sample[:, : columns * group].reshape(len(sample), group, columns).max(axis=1)
        maxima.partition(columns - place, axis=1)
        return np.maximum(maxima[:, columns - place], _LEAST), math.ceil(place / share)

    def _prove(self, bar: Scores, rows: Rows, values: Scores, count: Rows) -> None:
        """Leave in each list what can be among the k best; mark those that may lack some."""
        width = max(self.k, int(count.max()))
        table = np.where(np.arange(width) < count[:, None], values[:, :width], np.float32(-np.inf))
        table.partition(width - self.k, axis=1)
        limit = table[:, width - self.k] - 2.01 * rounding(self.longest, self.queries)
        with np.errstate(over="ignore"):  # what is lower than all numbers is lower than the bar
            below = np.nextafter(limit.astype(np.float32), np.float32(-np.inf))
        count[(count < self.k) | (below < bar)] = -1
        compiled.squeeze(below, rows, values, count)


def settled(vectors: Vectors, queries: Vectors, found: list[tuple[Rows, Rows]], k: int) -> tuple[Rows, Scores]:
    """Rows (q, w ≥ k) of all lists, −1 where there are no more, and their float64 sums as float32."""
    count = np.concatenate([each for _, each in found])
    rows = np.full((len(count), max(k, int(count.max()))), -1, dtype=np.int64)
    first = 0
    for some, _ in found:
        rows[first : first + len(some), : some.shape[1]] = some
        first += len(some)
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    compiled.inner_products(vectors, queries.astype(np.float64), rows, count, scores)
    rows[np.arange(rows.shape[1]) >= count[:, None]] = -1
    return rows, scores
