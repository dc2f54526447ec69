"""Search through one index: likely rows from FAISS, filters, exact scores, and exact search where rows are missing."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval import exact
from retrieval.backend import Backend
from retrieval.filters import Filter
from retrieval.gpu import GpuCopy
from retrieval.threads import spread
from retrieval.vectors import Rows, Scores, Vectors

SPARSE = 0.25
"""Where nothing was measured: with a smaller share allowed, multiplying just those beats a walk that drops most."""
_MOST = 0.25
"""An index that has to fetch a larger part of what is allowed is no shortcut."""
_BLOCK = 512  # queries whose scores one thread settles at a time
_FEW, _MANY = 16, 1 << 15
"""So few queries FAISS compares with so many titles faster than NumPy; what it finds is scored exactly as always."""


@dataclass(frozen=True)
class Engine:
    """An index type, its FAISS index, the search effort, and the vectors for exact scores. Safe to share by threads."""

    backend: Backend
    index: Any
    effort: int
    titles: exact.Titles
    filter_from: float = SPARSE
    """The smallest share of titles that a filter may allow before search is exact."""
    reach: int = sys.maxsize
    """The largest k, titles to leave out included, up to which recall was seen to hold; beyond it search is exact."""
    depth: int = 10
    """The k for which the effort was chosen. Whoever asks for more needs more, as what is wanted lies further apart."""
    gpu: GpuCopy | None = None

    @classmethod
    def of(cls, backend: Backend, index: Any, effort: int = 0, rank: Rows | None = None) -> "Engine":
        """The engine of a FAISS index; ties are ordered by `rank`, by row without one."""
        return cls(backend, index, effort, exact.Titles.of(backend.vectors(index), rank))

    def search(self, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        """Rows (q, k) and exact scores (q, k), best first, −1 and −inf only where fewer than k exist."""
        if self._goes_exact(len(queries), k, wanted):
            return exact.top_k(self.titles, queries, k, wanted)
        exact.refuse_overflow(self.titles, queries)
        fetched = self._likely(queries, k, wanted)
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)

        def settle(start: int) -> None:
            part = slice(start, start + _BLOCK)
            rows[part], scores[part] = self._best(fetched[part], queries[part], k, wanted.part(part))

        spread(settle, range(0, len(queries), _BLOCK))
        redo = np.flatnonzero(self._doubtful(fetched, rows, scores, queries, wanted))
        if len(redo):
            rows[redo], scores[redo] = exact.top_k(self.titles, queries[redo], k, wanted.take(redo))
        return rows, scores

    def _goes_exact(self, queries: int, k: int, wanted: Filter) -> bool:
        """Whether the index is no help: many queries and an exact type, a narrow filter, or most titles asked for."""
        if not self.backend.efforts and self.gpu is None and (queries > _FEW or len(self.titles) < _MANY):
            return True
        share = 1.0 if wanted.allowed is None else float(wanted.allowed.mean()) if len(self.titles) else 0.0
        if k + wanted.longest > self.reach:
            return True
        return share < self.filter_from or (k + wanted.longest) > _MOST * share * len(self.titles)

    def _likely(self, queries: Vectors, k: int, wanted: Filter) -> Rows:
        share = 1.0 if wanted.allowed is None else float(wanted.allowed.mean())
        deeper = max(1.0, (k + wanted.longest) / self.depth) ** 0.5
        fetch, effort = k + wanted.longest + 1, int(self.effort * deeper / share)  # one more: does a tie lie beyond?
        if self.gpu is not None:
            # FAISS's GPU indexes ignore selectors, so more is fetched and what is forbidden dropped afterwards.
            return self.gpu.search(queries, int(fetch / share) + k, effort)
        return self.backend.search(self.index, queries, fetch, effort, wanted.allowed)

    def _best(self, fetched: Rows, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        query, row = np.repeat(np.arange(len(queries)), fetched.shape[1]), np.sort(fetched, axis=1).ravel()
        query, row = query[row >= 0], row[row >= 0]
        kept = ~wanted.forbids(query, row, len(self.titles))
        return exact.best_pairs(self.titles, queries, k, (query[kept], row[kept]))

    def _doubtful(self, fetched: Rows, rows: Rows, scores: Scores, queries: Vectors, wanted: Filter) -> Any:
        """Which queries (q,) lack rows that exist, or on an exact type may lack a tie beyond the last row fetched."""
        found = (rows >= 0).sum(axis=1)
        lacking = found < rows.shape[1]
        if lacking.any():
            lacking = found < np.minimum(wanted.left(len(queries), len(self.titles)), rows.shape[1])
        if self.backend.efforts or fetched.shape[1] == 0:
            return lacking
        last = np.einsum("ij,ij->i", queries, self.titles.vectors[fetched[:, -1]], dtype=np.float64)
        return lacking | (last >= scores[:, -1] - exact.rounding(self.titles, queries))
