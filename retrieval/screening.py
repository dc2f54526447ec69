"""Which titles can be among the k best at all: every score is computed, few are looked at twice.

Titles go by in tiles. The k-th best of the maxima of disjoint groups of titles is a lower bound of the k-th best
score, nearly as high and much cheaper to find. It rises as tiles go by, and only what reaches it is kept.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrieval.filters import Filter
from retrieval.marks import places, seats
from retrieval.products import Asked, Codes, Product, at_most, forbid, forbidden, is_bits, lowest, scores_of, settle
from retrieval.vectors import Mask, Rows, Vectors

_GROUP = 16
_LEAST = float(np.finfo(np.float32).min)
Pairs = tuple[Rows, Rows]
"""Query and row of each pair (p,)."""
Found = tuple[Rows, Rows, Codes]
"""Query, row and code of each pair (p,)."""


@dataclass(frozen=True)
class Screen:
    """A product with `count` titles, some queries (q, d), how many each wants, and what may not be returned."""

    product: Product
    queries: Vectors
    count: int
    k: int
    wanted: Filter

    def pairs(self) -> Pairs:
        """All (query, row) that can be among the k best, sorted by query."""
        asked = self.product.ask(self.queries)
        tops, negative, found = None, False, []
        for tile in range(self.product.tiles):
            codes = self._allowed(asked, tile)
            if negative:
                settle(codes)
            if _raises(tile):
                tops, limit = self._raised(codes, tops, asked)
                if tile == 0 and is_bits(codes) and bool((limit <= 0).any()):  # it only rises from here
                    negative = True
                    settle(codes)
                    tops, limit = self._raised(codes, None, asked)
            found.append(self._reaching(codes, limit, tile))
        return found[0][:2] if len(found) == 1 else self._narrowed(found, limit, asked)

    @cached_property
    def _mask(self) -> Mask:
        return np.empty(len(self.queries) * -(-self.count // self.product.tiles), dtype=np.bool_)

    @cached_property
    def _hidden(self) -> list[Pairs]:
        """What is excluded in each tile, as (query, place in the tile)."""
        query, row = self.wanted.pairs
        if self.product.tiles == 1:
            return [(query, row)]
        place, tile = np.divmod(row, self.product.tiles)
        order = np.argsort(tile.astype(np.min_scalar_type(self.product.tiles)), kind="stable")  # bytes sort quickest
        ends = np.searchsorted(tile[order], np.arange(1, self.product.tiles))
        return list(zip(np.split(query[order], ends), np.split(place[order], ends), strict=True))

    def _allowed(self, asked: Asked, tile: int) -> Codes:
        """Codes (q, w) of one tile, those of what is forbidden lower than any."""
        codes = asked.scores(tile)
        if self.wanted.allowed is not None:
            forbid(codes, self.wanted.allowed[tile :: self.product.tiles])
        if self.wanted.excluded:
            codes[self._hidden[tile]] = forbidden(codes)
        return codes

    def _raised(self, codes: Codes, tops: Codes | None, asked: Asked) -> tuple[Codes, Codes]:
        """The best (q, k or fewer) of the groups in a tile and of those before, the least of them first; the limit."""
        maxima = _maxima(codes, self.k)
        tops = _best(maxima if tops is None else np.concatenate([tops, maxima], axis=1), self.k)
        return tops, self._limit(tops, asked)

    def _limit(self, tops: Codes, asked: Asked) -> Codes:
        """What a score must reach (q,) to be, errors allowed for, no less than the k-th best of those so far."""
        if tops.shape[1] < self.k:
            return at_most(np.full(len(tops), -np.inf), tops)
        least = np.maximum(scores_of(tops[:, 0]), _LEAST)
        return at_most(least - 2.01 * asked.error - self.product.grain * np.abs(least), tops)

    def _reaching(self, codes: Codes, limit: Codes, tile: int) -> Found:
        # into the same memory for every tile, because fresh pages cost as much as the comparison
        mask = np.greater_equal(codes, limit[:, None], out=self._mask[: codes.size].reshape(codes.shape))
        place, width = places(mask), codes.shape[1]
        query = place // width
        return query, (place - query * width) * self.product.tiles + tile, codes.ravel().take(place)

    def _narrowed(self, found: list[Found], limit: Codes, asked: Asked) -> Pairs:
        """What of all found in several tiles reaches the last limit, or a better one where it is of long ago."""
        query, row, code = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(query.astype(np.uint16), kind="stable")
        query, row, code = query[order], row[order], code[order]
        if not _raises(len(found) - 1):
            count = np.bincount(query, minlength=len(self.queries))
            table = np.full_like(code, lowest(code), shape=(len(count), int(count.max(initial=0))))
            table.ravel()[seats(count, table.shape[1])] = code
            limit = self._limit(_best(table, self.k), asked)
        kept = code >= limit[query]
        return query[kept], row[kept]


def _raises(tile: int) -> bool:
    """Whether the limit is raised after a tile: after the first, and then whenever twice as many have gone by."""
    return tile & (tile - 1) == 0


def _best(codes: Codes, k: int) -> Codes:
    """The k best of each row of codes (q, w), the least of them first; changes their order."""
    if codes.shape[1] >= k:
        codes.partition(codes.shape[1] - k, axis=1)
    return codes[:, -k:]


def _maxima(codes: Codes, k: int) -> Codes:
    """Maxima of disjoint groups, of which the best few are nearly the best few scores, in memory of their own."""
    group = max(1, min(_GROUP, codes.shape[1] // (4 * k)))
    columns = codes.shape[1] // group
    maxima: Codes = codes[:, : columns * group].reshape(len(codes), group, columns).max(axis=1)
    return maxima
