"""Search one FAISS index: candidate rows, filters, exact scores, and exact search where rows are missing."""

import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from retrieval import exact
from retrieval.backends import Backend
from retrieval.filters import Filter
from retrieval.gpu import GpuCopy
from retrieval.threads import map_threads
from retrieval.vectors import Rows, Scores, Vectors

SPARSE_FILTER_SHARE = 0.25
"""Where nothing was measured: with a smaller share allowed, multiplying just those beats a walk that drops most."""
_MAX_INDEX_SHARE = 0.25
"""An index that has to fetch a larger part of what is allowed is no shortcut."""
_QUERIES_PER_BLOCK = 512  # queries whose scores one thread settles at a time
_MIN_FETCH, _MAX_FETCH = 16, 1 << 15
"""So few queries FAISS compares with so many titles faster than NumPy; what it finds is scored exactly as always."""


@dataclass(frozen=True)
class Engine:
    """An index type, its FAISS index, the search effort, and the vectors for exact scores. Safe to share by threads."""

    backend: Backend
    index: Any
    search_effort: int
    titles: exact.TitleVectors
    min_filter_share: float = SPARSE_FILTER_SHARE
    """The smallest share of titles that a filter may allow before search is exact."""
    max_exact_k: int = sys.maxsize
    """The largest k, titles to leave out included, up to which recall was seen to hold; beyond it search is exact."""
    tuned_k: int = 10
    """The k for which the effort was chosen. Whoever asks for more needs more, as what is wanted lies further apart."""
    gpu: GpuCopy | None = None

    @classmethod
    def of(cls, backend: Backend, index: Any, effort: int = 0, rank: Rows | None = None) -> "Engine":
        """The engine of a FAISS index; ties are ordered by `rank`, by row without one."""
        return cls(backend, index, effort, exact.TitleVectors.of(backend.vectors(index), rank))

    def search(self, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        """Rows (q, k) and exact scores (q, k), best first, −1 and −inf only where fewer than k exist."""
        if self._should_search_exactly(len(queries), k, wanted):
            return exact.top_k(self.titles, queries, k, wanted)
        exact.refuse_overflow(self.titles, queries)
        fetched = self._search_index(queries, k, wanted)
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)

        def settle(start: int) -> None:
            part = slice(start, start + _QUERIES_PER_BLOCK)
            rows[part], scores[part] = self._rescore(fetched[part], queries[part], k, wanted.slice(part))

        map_threads(settle, range(0, len(queries), _QUERIES_PER_BLOCK))
        redo = np.flatnonzero(self._incomplete_queries(fetched, rows, scores, queries, wanted))
        if len(redo):
            rows[redo], scores[redo] = exact.top_k(self.titles, queries[redo], k, wanted.take(redo))
        return rows, scores

    def _should_search_exactly(self, queries: int, k: int, wanted: Filter) -> bool:
        """Whether the index is no help: many queries and an exact type, a narrow filter, or most titles asked for."""
        if (
            not self.backend.search_efforts
            and self.gpu is None
            and (queries > _MIN_FETCH or len(self.titles) < _MAX_FETCH)
        ):
            return True
        share = 1.0 if wanted.allowed is None else float(wanted.allowed.mean()) if len(self.titles) else 0.0
        if k + wanted.max_exclusions > self.max_exact_k:
            return True
        return share < self.min_filter_share or (k + wanted.max_exclusions) > _MAX_INDEX_SHARE * share * len(
            self.titles
        )

    def _search_index(self, queries: Vectors, k: int, wanted: Filter) -> Rows:
        share = 1.0 if wanted.allowed is None else float(wanted.allowed.mean())
        deeper = max(1.0, (k + wanted.max_exclusions) / self.tuned_k) ** 0.5
        fetch, effort = (
            k + wanted.max_exclusions + 1,
            int(self.search_effort * deeper / share),
        )  # one more: does a tie lie beyond?
        if self.gpu is not None:
            # FAISS's GPU indexes ignore selectors, so more is fetched and what is forbidden dropped afterwards.
            return self.gpu.search(queries, int(fetch / share) + k, effort)
        return self.backend.search(self.index, queries, fetch, effort, wanted.allowed)

    def _rescore(self, fetched: Rows, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        query, row = np.repeat(np.arange(len(queries)), fetched.shape[1]), np.sort(fetched, axis=1).ravel()
        query, row = query[row >= 0], row[row >= 0]
        kept = ~wanted.forbids(query, row, len(self.titles))
        return exact.best_pairs(self.titles, queries, k, (query[kept], row[kept]))

    def _incomplete_queries(self, fetched: Rows, rows: Rows, scores: Scores, queries: Vectors, wanted: Filter) -> Any:
        """Which queries (q,) lack rows that exist, or on an exact type may lack a tie beyond the last row fetched."""
        found = (rows >= 0).sum(axis=1)
        lacking = found < rows.shape[1]
        if lacking.any():
            lacking = found < np.minimum(wanted.num_allowed(len(queries), len(self.titles)), rows.shape[1])
        if self.backend.search_efforts or fetched.shape[1] == 0:
            return lacking
        last = np.einsum("ij,ij->i", queries, self.titles.vectors[fetched[:, -1]], dtype=np.float64)
        return lacking | (last >= scores[:, -1] - exact.score_error_bound(self.titles, queries))


@dataclass(frozen=True)
class DeltaEngine(Engine):
    """An engine whose rows from `num_indexed` on are not in its index. They are few until tonight, so all are looked
    at.
    """

    num_indexed: int = 0
    base: Engine | None = field(default=None, repr=False)

    @classmethod
    def with_added(cls, engine: Engine, vectors: Vectors, rank: Rows | None) -> "DeltaEngine":
        """The engine with vectors (m, d) added; `rank` (n + m,) orders ties among all."""
        base = engine.base if isinstance(engine, DeltaEngine) and engine.base is not None else engine
        whole = np.concatenate([engine.titles.vectors, vectors])
        kept = ("backend", "index", "search_effort", "min_filter_share", "max_exact_k", "tuned_k", "gpu")
        common = {name: getattr(base, name) for name in kept}
        return cls(**common, titles=exact.TitleVectors.of(whole, rank), num_indexed=len(base.titles), base=base)

    def search(self, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        """As `Engine.search`: the best of what the index finds among the old titles and of all new ones."""
        assert self.base is not None
        count, old = len(self.titles), self.num_indexed
        new = np.arange(old, count)
        within = replace(wanted, allowed=None if wanted.allowed is None else wanted.allowed[:old])
        before = self.base.search(queries, k, _restrict_filter(within, old))[0]
        among = wanted.restricted_to(new, count)
        among = Filter(None if wanted.allowed is None else wanted.allowed[old:], among.excluded)
        after = exact.top_k(exact.TitleVectors.of(self.titles.vectors[old:]), queries, k, among)[0]
        rows = np.concatenate([before, np.where(after >= 0, after + old, -1)], axis=1)
        query, place = np.nonzero(rows >= 0)
        return exact.best_pairs(self.titles, queries, k, (query, rows[query, place]))


def _restrict_filter(wanted: Filter, count: int) -> Filter:
    """The filter with exclusions of the first `count` rows only."""
    if wanted.excluded is None:
        return wanted
    return Filter(wanted.allowed, [gone[gone < count] for gone in wanted.excluded])
