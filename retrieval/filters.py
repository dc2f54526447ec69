"""Filters as rows: which titles may be returned at all, and which not to whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrieval.vectors import Mask, Rows


@dataclass(frozen=True)
class Filter:
    """What may be returned: `allowed` (n,) for every query, `excluded` one array of rows per query."""

    allowed: Mask | None = None
    excluded: Sequence[Rows] | None = None

    def slice(self, queries: slice) -> "Filter":
        """The filter of consecutive queries."""
        return Filter(self.allowed, None if self.excluded is None else self.excluded[queries])

    def take(self, queries: Rows) -> "Filter":
        """The filter of some queries."""
        return Filter(self.allowed, None if self.excluded is None else [self.excluded[i] for i in queries])

    def restricted_to(self, rows: Rows, count: int) -> "Filter":
        """The filter for a search among `rows` only, all of them allowed, out of `count` titles."""
        if self.excluded is None:
            return Filter()
        place = np.full(count, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        moved = [place[gone] for gone in self.excluded]
        return Filter(None, [gone[gone >= 0] for gone in moved])

    @cached_property
    def flat_exclusions(self) -> tuple[Rows, Rows]:
        """Where each query's exclusions end among the rows of all, and those rows."""
        if not self.excluded:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return np.cumsum([len(gone) for gone in self.excluded]), np.concatenate(self.excluded).astype(np.int64)

    @cached_property
    def exclusion_pairs(self) -> tuple[Rows, Rows]:
        """All exclusions as (query, row)."""
        if not self.excluded:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        queries = np.repeat(np.arange(len(self.excluded)), [len(gone) for gone in self.excluded])
        return queries, np.concatenate(self.excluded).astype(np.int64)

    @property
    def max_exclusions(self) -> int:
        """The most titles excluded for one query."""
        return max((len(gone) for gone in self.excluded), default=0) if self.excluded else 0

    def forbids(self, queries: Rows, rows: Rows, count: int) -> Mask:
        """Whether each (query, row) may not be returned; `count` is the number of titles."""
        forbidden = np.zeros(len(rows), dtype=bool) if self.allowed is None else ~self.allowed[rows]
        gone_query, gone_row = self.exclusion_pairs
        if len(gone_row):
            gone, asked = np.sort(gone_query * count + gone_row), queries * count + rows
            forbidden |= gone[np.minimum(np.searchsorted(gone, asked), len(gone) - 1)] == asked
        return forbidden

    def num_allowed(self, queries: int, count: int) -> npt.NDArray[np.int64]:
        """How many of `count` titles remain for each of the queries."""
        whole = count if self.allowed is None else int(self.allowed.sum())
        gone_query, gone_row = self.exclusion_pairs
        unique = np.unique(gone_query * count + gone_row)
        if self.allowed is not None:
            unique = unique[self.allowed[unique % max(count, 1)]]
        return whole - np.bincount(unique // max(count, 1), minlength=queries)
