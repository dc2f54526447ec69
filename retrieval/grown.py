"""Titles added between nights: an index as it was, and the new titles beside it, searched exactly."""

from dataclasses import dataclass, field, replace

import numpy as np

from retrieval import exact
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.vectors import Rows, Scores, Vectors


@dataclass(frozen=True)
class Grown(Engine):
    """An engine whose rows from `old` on are not in its index. They are few until tonight, so all are looked at."""

    old: int = 0
    base: Engine | None = field(default=None, repr=False)

    @classmethod
    def by(cls, engine: Engine, vectors: Vectors, rank: Rows | None) -> "Grown":
        """The engine with vectors (m, d) added; `rank` (n + m,) orders ties among all."""
        base = engine.base if isinstance(engine, Grown) and engine.base is not None else engine
        whole = np.concatenate([engine.titles.vectors, vectors])
        common = {
            name: getattr(base, name) for name in ("backend", "index", "effort", "filter_from", "reach", "depth", "gpu")
        }
        return cls(**common, titles=exact.Titles.of(whole, rank), old=len(base.titles), base=base)

    def search(self, queries: Vectors, k: int, wanted: Filter) -> tuple[Rows, Scores]:
        """As `Engine.search`: the best of what the index finds among the old titles and of all new ones."""
        assert self.base is not None
        count, old = len(self.titles), self.old
        new = np.arange(old, count)
        within = replace(wanted, allowed=None if wanted.allowed is None else wanted.allowed[:old])
        before = self.base.search(queries, k, _only(within, old))[0]
        among = wanted.within(new, count)
        among = Filter(None if wanted.allowed is None else wanted.allowed[old:], among.excluded)
        after = exact.top_k(exact.Titles.of(self.titles.vectors[old:]), queries, k, among)[0]
        rows = np.concatenate([before, np.where(after >= 0, after + old, -1)], axis=1)
        query, place = np.nonzero(rows >= 0)
        return exact.best_pairs(self.titles, queries, k, (query, rows[query, place]))


def _only(wanted: Filter, count: int) -> Filter:
    """The filter with exclusions of the first `count` rows only."""
    if wanted.excluded is None:
        return wanted
    return Filter(wanted.allowed, [gone[gone < count] for gone in wanted.excluded])
