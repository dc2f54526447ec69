"""`TitleIndex`: ids and vectors of titles, searched by inner product or cosine with filters; saved and loaded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval import exact, gpu
from retrieval.arguments import as_cosine, as_k, as_mask, require_instance
from retrieval.autotune import TunedIndex, autotune
from retrieval.backends import BACKENDS, Backend
from retrieval.config import IndexConfig, Metric
from retrieval.engine import DeltaEngine, Engine
from retrieval.filters import Filter
from retrieval.ids import Ids, TitleIds, as_ids
from retrieval.index_metadata import FILE, IndexFolderMetadata, IndexMetadata, Origin, StoredFile, StoredIndex, Trial
from retrieval.recall import Recall, recall_of_scores
from retrieval.vectors import Rows, Scores, Vectors, as_vectors, unit
from stores.errors import CorruptError, MismatchError, NotFoundError, UsageError
from stores.files.filesystem import Storage, sha256
from stores.files.parquet import parquet_bytes


class TitleIndex:
    """A searchable set of titles. Immutable, and safe to search from several threads."""

    def __init__(self, ids: TitleIds, engine: Engine, card: IndexMetadata, origin: Origin) -> None:
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
        require_instance(config, IndexConfig, "config")
        require_instance(origin, Origin, "origin")
        known, base = TitleIds.of(ids), as_vectors(vectors, "vector")
        if len(known) != len(base):
            raise MismatchError(f"{len(known)} ids for {len(base)} vectors", expected="one id for each vector")
        asked = as_vectors(np.zeros((0, base.shape[1])) if queries is None else queries, "query", base.shape[1])
        choice = autotune(
            _prepare_vectors(base, config.metric), _prepare_vectors(asked, config.metric), config, known.rank
        )
        return cls(known, with_gpu_copy(choice.engine, config), _metadata(choice, config.metric), origin)

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
        dedup_threshold: float | None = None,
    ) -> tuple[Ids, Scores]:
        """The k best titles for each of `queries` (q, d): ids (q, k) and scores (q, k) float32, best first.

        `exclude` holds one array of ids per query, `allowed` is a boolean mask (n,) in the order of the
        ids at build. There are k titles whenever k may be returned; −1 (None for str ids) and −inf
        stand where none is left. Scores are exact inner products of what was indexed, ties are in the
        order of the ids. With `dedup_threshold`, of titles whose cosine is at least that only the best one is kept.
        Raises UsageError and MismatchError for input that cannot be searched.
        """
        k, dedup_threshold = as_k(k, len(self)), None if dedup_threshold is None else as_cosine(dedup_threshold)
        asked = _prepare_vectors(as_vectors(queries, "query", self.dim), self.metric)
        wanted = self.filter(len(asked), exclude, allowed)
        if dedup_threshold is None:
            rows, scores = self.engine.search(asked, k, wanted)
        else:
            rows, scores = deduplicate(
                lambda fetch: self.engine.search(asked, fetch, wanted), self.vectors, k, dedup_threshold
            )
        return self.ids.at(rows), scores

    def with_added(self, ids: Any, vectors: Any, queries: Any = None) -> "TitleIndex":
        """The index with more titles (m,), for the time until the next night; recall is measured on `queries` (q, d).

        New titles are searched exactly, so they are found at once and lower no recall. Raises UsageError for
        ids that are there already and MismatchError for vectors of another width.
        """
        more = _prepare_vectors(as_vectors(vectors, "vector", self.dim), self.metric)
        known = TitleIds.of(np.concatenate([self.ids.values, as_ids(ids, "title ids")]))
        if len(known) != len(self) + len(more):
            raise MismatchError(f"{len(known) - len(self)} ids for {len(more)} vectors", expected="one id each")
        engine = DeltaEngine.with_added(self.engine, more, known.rank)
        grown = TitleIndex(known, engine, self.card.model_copy(update={"titles": len(known)}), self.origin)
        recall = None if queries is None else grown.measure(queries, self.card.recall.k if self.card.recall else 10)
        return TitleIndex(known, engine, grown.card.model_copy(update={"recall": recall}), self.origin)

    def filter(self, queries: int, exclude: Sequence[Any] | None, allowed: Any) -> Filter:
        """The checked filter of a search. Raises UsageError and MismatchError."""
        excluded = None if exclude is None else self.ids.excluded(exclude, queries)
        return Filter(None if allowed is None else as_mask(allowed, len(self)), excluded)

    def measure(self, queries: Any, k: int, exclude: Sequence[Any] | None = None, allowed: Any = None) -> Recall | None:
        """Recall@k against the oracle on `queries` (q, d) under a filter; None without queries."""
        k, asked = as_k(k, len(self)), _prepare_vectors(as_vectors(queries, "query", self.dim), self.metric)
        wanted = self.filter(len(asked), exclude, allowed)
        expected = exact.top_k(self.engine.titles, asked, k, wanted)[1]
        return recall_of_scores(self.engine.search(asked, k, wanted)[1], expected)

    def with_slice_recall(self, slices: dict[str, Recall]) -> "TitleIndex":
        """The same index, whose card also holds recall of other kinds of search."""
        return TitleIndex(self.ids, self.engine, self.card.model_copy(update={"slices": slices}), self.origin)

    def save(self, folder: str | Path) -> None:
        """Write `faiss`, `ids.parquet` and `json` to a folder or object-store prefix, made if missing."""

        require_instance(folder, (str, Path), "folder")
        if isinstance(self.engine, DeltaEngine):
            raise UsageError("an index with titles added cannot be saved", fix="build one of all titles")
        save_indexes({"index": self}, str(folder))

    @classmethod
    def load(cls, folder: str | Path, name: str = "index", origin: Origin | None = None) -> "TitleIndex":
        """Open a saved index; `name` picks one of a release's, "candidates" or "similar".

        Raises CorruptError where bytes are not those written, MismatchError where files do not fit one
        another or `origin`; both name both values.
        """

        require_instance(folder, (str, Path), "folder")
        require_instance(name, str, "name")
        require_instance(origin or Origin(), Origin, "origin")
        return load_index(str(folder), name, origin or Origin())


def with_gpu_copy(engine: Engine, config: IndexConfig) -> Engine:
    """The engine with a copy on all GPUs, if the settings allow it, its type can be there and FAISS sees any."""
    if config.device == "cpu" or not engine.backend.on_gpu or not len(engine.titles) or gpu.num_gpus() == 0:
        return engine
    return replace(engine, gpu=gpu.GpuCopy.of(engine.index))


def _prepare_vectors(vectors: Vectors, metric: Metric) -> Vectors:
    return unit(vectors) if metric == "cosine" else vectors


def _metadata(choice: TunedIndex, metric: Metric) -> IndexMetadata:
    titles, dim = choice.engine.titles.vectors.shape
    return IndexMetadata(
        metric=metric,
        dim=dim,
        titles=titles,
        backend=choice.engine.backend.name,
        search_effort=choice.engine.search_effort,
        min_filter_share=choice.engine.min_filter_share,
        max_exact_k=choice.engine.max_exact_k,
        recall=choice.recall,
        queries_per_second=choice.queries_per_second,
        trials=choice.trials,
    )


IDS_FILE = "ids.parquet"


def serialize_indexes(indexes: dict[str, TitleIndex]) -> dict[str, pa.Buffer]:
    """The files of indexes of the same titles, by name; the card comes last, because it vouches for the others."""
    first = next(iter(indexes.values()))
    ids = parquet_bytes(first.ids.to_table())
    packed: dict[str, pa.Buffer] = {IDS_FILE: ids}
    stored: dict[str, StoredIndex] = {}
    for name, index in indexes.items():
        if not np.array_equal(index.ids.values, first.ids.values):
            raise MismatchError(f"the index {name} has other ids than the first", expected="the same ids in one order")
        data = pa.py_buffer(faiss.serialize_index(index.engine.index))
        packed[f"{name}.faiss"] = data
        stored[name] = StoredIndex(**index.card.model_dump(exclude={"file"}), file=_stored_file(f"{name}.faiss", data))
    card = IndexFolderMetadata(origin=first.origin, ids=_stored_file(IDS_FILE, ids), indexes=stored)
    packed[FILE] = pa.py_buffer(card.to_bytes())
    return packed


def save_indexes(indexes: dict[str, TitleIndex], folder: str) -> None:
    """Write indexes of the same titles to a folder or an object-store prefix."""
    storage = Storage(folder)
    for name, data in serialize_indexes(indexes).items():
        storage.write(name, data)


def load_index(folder: str, name: str, origin: Origin) -> TitleIndex:
    """One index of a folder, mapped into memory where it is on local disk; see `TitleIndex.load`."""
    storage = Storage(folder)
    if not storage.exists(FILE):
        raise NotFoundError("there is no index here", where=folder, expected=f"a folder with {FILE}")
    data = storage.read(FILE)
    card = IndexFolderMetadata.read(data, f"{folder}/{FILE}")
    card.require(origin, folder)
    if name not in card.indexes:
        raise NotFoundError(f"there is no index {name}", where=folder, expected=f"one of {', '.join(card.indexes)}")
    stored = card.indexes[name]
    ids = TitleIds.from_table(pq.ParquetFile(pa.BufferReader(_read_verified(storage, card.ids))).read())
    backend = _backend_of(stored, folder)
    index = _read_index(storage, stored.file)
    _refuse_misfit(index, stored, backend, len(ids), f"{folder}/{stored.file.name}")
    card.refuse_damage(data, f"{folder}/{FILE}")  # last, since errors that name two values say more
    engine = Engine.of(backend, index, stored.search_effort, ids.rank)
    depth = stored.recall.k if stored.recall else engine.tuned_k
    engine = replace(engine, min_filter_share=stored.min_filter_share, max_exact_k=stored.max_exact_k, tuned_k=depth)
    return TitleIndex(ids, engine, stored, card.origin)


def _stored_file(name: str, data: pa.Buffer) -> StoredFile:
    return StoredFile(name=name, bytes=len(data), sha256=sha256(data))


def _backend_of(stored: StoredIndex, where: str) -> Backend:
    if stored.backend not in BACKENDS:
        raise MismatchError(
            f"the index is of type {stored.backend}, this samespace knows {', '.join(BACKENDS)}", where=where
        )
    return BACKENDS[stored.backend]


def _read_verified(storage: Storage, file: StoredFile) -> pa.Buffer:
    """The bytes of a file, mapped where they are on local disk. Raises CorruptError for any but those written."""
    if not storage.exists(file.name):
        raise CorruptError(f"{file.name} is missing", where=storage.uri)
    if storage.is_local:
        data = pa.memory_map(str(storage.local(file.name))).read_buffer()
    else:
        data = pa.py_buffer(storage.read(file.name))
    found = sha256(data)
    if found != file.sha256:
        raise CorruptError(
            f"{file.name} has hash {found}, {FILE} says {file.sha256}", where=storage.uri, fix="restore or rebuild it"
        )
    return data


def _read_index(storage: Storage, file: StoredFile) -> Any:
    data = _read_verified(storage, file)
    try:
        if storage.is_local:
            return faiss.read_index(str(storage.local(file.name)), faiss.IO_FLAG_MMAP_IFC)
        return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    except RuntimeError as error:  # what FAISS raises for bytes that it cannot read
        raise CorruptError(f"FAISS cannot read {file.name}: {error}", where=storage.uri) from error


def _refuse_misfit(index: Any, stored: StoredIndex, backend: Backend, ids: int, where: str) -> None:
    kind = type(index).__name__
    for what, there, expected in (
        ("type", kind, backend.kind),
        ("dimensions", index.d, stored.dim),
        ("metric", index.metric_type, faiss.METRIC_INNER_PRODUCT),
        ("titles", index.ntotal, stored.titles),
        ("titles beside its ids", index.ntotal, ids),
    ):
        if there != expected:
            raise MismatchError(f"the index file has {what} {there}, expected was {expected}", where=where)


Search = Callable[[int], tuple[Rows, Scores]]
"""Rows and scores (q, k) for a k."""


def deduplicate(search: Search, vectors: Vectors, k: int, dedup_threshold: float) -> tuple[Rows, Scores]:
    """Rows and scores (q, k) of which no two have a cosine of `dedup_threshold` or more; −1 and −inf where none is
    left.

    A title gives way to a better-placed one. More is asked for until k are left or there is no more.
    """
    fetch = k
    while True:
        fetch = min(2 * fetch, len(vectors))
        rows, scores = search(fetch)
        kept = [_kept_positions(vectors, row[row >= 0], k, dedup_threshold) for row in rows]
        short = [len(some) < k and (row >= 0).all() for some, row in zip(kept, rows, strict=True)]
        if fetch == len(vectors) or not any(short):
            return _pad_results(rows, scores, kept, k)


def _kept_positions(vectors: Vectors, rows: Rows, k: int, alike: float) -> list[int]:
    """Places of the rows that are kept."""
    directions = unit(vectors[rows])
    kept: list[int] = []
    for place in range(len(rows)):
        if len(kept) == k:
            break
        if not kept or float((directions[kept] @ directions[place]).max()) < alike:
            kept.append(place)
    return kept


def _pad_results(rows: Rows, scores: Scores, kept: list[list[int]], k: int) -> tuple[Rows, Scores]:
    best = np.full((len(rows), k), -1, dtype=np.int64)
    values = np.full((len(rows), k), -np.inf, dtype=np.float32)
    for query, places in enumerate(kept):
        best[query, : len(places)], values[query, : len(places)] = rows[query, places], scores[query, places]
    return best, values
