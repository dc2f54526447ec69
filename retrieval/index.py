"""`TitleIndex`: ids and vectors of titles, searched by inner product or cosine, with filters that hold."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval import exact, gpu
from retrieval.arguments import as_cosine, as_k, as_mask, require
from retrieval.card import IndexCard, Origin, Trial
from retrieval.config import IndexConfig, Metric
from retrieval.duplicates import distinct
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.grown import Grown
from retrieval.ids import Ids, TitleIds, as_ids
from retrieval.recall import Recall, of_scores
from retrieval.trials import Choice, choose
from retrieval.vectors import Scores, Vectors, as_vectors, unit
from stores.errors import MismatchError, UsageError


class TitleIndex:
    """A searchable set of titles. Immutable, and safe to search from several threads."""

    def __init__(self, ids: TitleIds, engine: Engine, card: IndexCard, origin: Origin) -> None:
        self.ids, self.engine, self.card, self.origin = ids, engine, card, origin

    @classmethod
    def build(
        cls,
        ids: Any,
        vectors: Any,
        queries: Any = None,
        config: IndexConfig | None = None,
        origin: Origin | None = None,
    ) -> "TitleIndex":
        """An index of titles `ids` (n,), int64 or str, with `vectors` (n, d).

        `queries` (q, d) are real member vectors, on which index types are judged; without them the index
        is exact and its recall is not known. `origin` says where the vectors come from. Raises UsageError
        for duplicate ids, numbers that are not finite (by position) or wrong shapes, MismatchError where
        lengths or widths differ.
        """
        config, origin = config or IndexConfig(), origin or Origin()
        require(config, IndexConfig, "config")
        require(origin, Origin, "origin")
        known, base = TitleIds.of(ids), as_vectors(vectors, "vector")
        if len(known) != len(base):
            raise MismatchError(f"{len(known)} ids for {len(base)} vectors", expected="one id for each vector")
        asked = as_vectors(np.zeros((0, base.shape[1])) if queries is None else queries, "query", base.shape[1])
        choice = choose(_of_metric(base, config.metric), _of_metric(asked, config.metric), config, known.rank)
        return cls(known, with_device(choice.engine, config), _card(choice, config.metric), origin)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def metric(self) -> Metric:
        """The metric chosen at build."""
        return self.card.metric

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.card.dim

    @property
    def recall(self) -> Recall | None:
        """Recall measured when the index was built; None where there was no query to measure it with."""
        return self.card.recall

    @property
    def trials(self) -> list[Trial]:
        """Index types as tried when the index was built."""
        return self.card.trials

    @property
    def vectors(self) -> Vectors:
        """The vectors (n, d) that are searched, at unit length for the metric "cosine"; do not write to them."""
        return self.engine.titles.vectors

    def search(
        self,
        queries: Any,
        k: int = 10,
        exclude: Sequence[Any] | None = None,
        allowed: Any = None,
        alike: float | None = None,
    ) -> tuple[Ids, Scores]:
        """The k best titles for each of `queries` (q, d): ids (q, k) and scores (q, k) float32, best first.

        `exclude` holds one array of ids per query, `allowed` is a boolean mask (n,) in the order of the
        ids at build. There are k titles whenever k may be returned; −1 (None for str ids) and −inf
        stand where none is left. Scores are exact inner products of what was indexed, ties are in the
        order of the ids. With `alike`, of titles whose cosine is at least that only the best one is kept.
        Raises UsageError and MismatchError for input that cannot be searched.
        """
        k, alike = as_k(k, len(self)), None if alike is None else as_cosine(alike)
        asked = _of_metric(as_vectors(queries, "query", self.dim), self.metric)
        wanted = self.filter(len(asked), exclude, allowed)
        if alike is None:
            rows, scores = self.engine.search(asked, k, wanted)
        else:
            rows, scores = distinct(lambda fetch: self.engine.search(asked, fetch, wanted), self.vectors, k, alike)
        return self.ids.at(rows), scores

    def with_added(self, ids: Any, vectors: Any, queries: Any = None) -> "TitleIndex":
        """The index with more titles (m,), for the time until the next night; recall is measured on `queries` (q, d).

        New titles are searched exactly, so they are found at once and lower no recall. Raises UsageError for
        ids that are there already and MismatchError for vectors of another width.
        """
        more = _of_metric(as_vectors(vectors, "vector", self.dim), self.metric)
        known = TitleIds.of(np.concatenate([self.ids.values, as_ids(ids, "title ids")]))
        if len(known) != len(self) + len(more):
            raise MismatchError(f"{len(known) - len(self)} ids for {len(more)} vectors", expected="one id each")
        engine = Grown.by(self.engine, more, known.rank)
        grown = TitleIndex(known, engine, self.card.model_copy(update={"titles": len(known)}), self.origin)
        recall = None if queries is None else grown.measure(queries, self.card.recall.k if self.card.recall else 10)
        return TitleIndex(known, engine, grown.card.model_copy(update={"recall": recall}), self.origin)

    def filter(self, queries: int, exclude: Sequence[Any] | None, allowed: Any) -> Filter:
        """The checked filter of a search. Raises UsageError and MismatchError."""
        excluded = None if exclude is None else self.ids.excluded(exclude, queries)
        return Filter(None if allowed is None else as_mask(allowed, len(self)), excluded)

    def measure(self, queries: Any, k: int, exclude: Sequence[Any] | None = None, allowed: Any = None) -> Recall | None:
        """Recall@k against the oracle on `queries` (q, d) under a filter; None without queries."""
        k, asked = as_k(k, len(self)), _of_metric(as_vectors(queries, "query", self.dim), self.metric)
        wanted = self.filter(len(asked), exclude, allowed)
        expected = exact.top_k(self.engine.titles, asked, k, wanted)[1]
        return of_scores(self.engine.search(asked, k, wanted)[1], expected)

    def with_slices(self, slices: dict[str, Recall]) -> "TitleIndex":
        """The same index, whose card also holds recall of other kinds of search."""
        return TitleIndex(self.ids, self.engine, self.card.model_copy(update={"slices": slices}), self.origin)

    def save(self, folder: str | Path) -> None:
        """Write `index.faiss`, `ids.parquet` and `index.json` to a folder or object-store prefix, made if missing."""
        from retrieval import files  # here, because files builds a TitleIndex

        require(folder, (str, Path), "folder")
        if isinstance(self.engine, Grown):
            raise UsageError("an index with titles added cannot be saved", fix="build one of all titles")
        files.save({"index": self}, str(folder))

    @classmethod
    def load(cls, folder: str | Path, name: str = "index", origin: Origin | None = None) -> "TitleIndex":
        """Open a saved index; `name` picks one of a release's, "candidates" or "similar".

        Raises CorruptError where bytes are not those written, MismatchError where files do not fit one
        another or `origin`; both name both values.
        """
        from retrieval import files

        require(folder, (str, Path), "folder")
        require(name, str, "name")
        require(origin or Origin(), Origin, "origin")
        return files.load(str(folder), name, origin or Origin())


def with_device(engine: Engine, config: IndexConfig) -> Engine:
    """The engine with a copy on all GPUs, if the settings allow it, its type can be there and FAISS sees any."""
    if config.device == "cpu" or not engine.backend.on_gpu or not len(engine.titles) or gpu.count() == 0:
        return engine
    return replace(engine, gpu=gpu.GpuCopy.of(engine.index))


def _of_metric(vectors: Vectors, metric: Metric) -> Vectors:
    return unit(vectors) if metric == "cosine" else vectors


def _card(choice: Choice, metric: Metric) -> IndexCard:
    titles, dim = choice.engine.titles.vectors.shape
    return IndexCard(
        metric=metric,
        dim=dim,
        titles=titles,
        backend=choice.engine.backend.name,
        effort=choice.engine.effort,
        filter_from=choice.engine.filter_from,
        reach=choice.engine.reach,
        recall=choice.recall,
        queries_per_second=choice.queries_per_second,
        trials=choice.trials,
    )
