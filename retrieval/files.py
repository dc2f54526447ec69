"""Indexes as files: plain FAISS files, one Parquet file of ids in row order, one JSON card that vouches for both."""

from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.backend import Backend
from retrieval.backends import BACKENDS
from retrieval.card import FILE, FolderCard, Origin, StoredFile, StoredIndex
from retrieval.engine import Engine
from retrieval.ids import TitleIds
from retrieval.index import TitleIndex
from stores.errors import CorruptError, MismatchError, NotFoundError
from stores.parquet import parquet_bytes
from stores.storage import Storage, sha256

IDS = "ids.parquet"


def pack(indexes: dict[str, TitleIndex]) -> dict[str, pa.Buffer]:
    """The files of indexes of the same titles, by name; the card comes last, because it vouches for the others."""
    first = next(iter(indexes.values()))
    ids = parquet_bytes(first.ids.to_table())
    packed: dict[str, pa.Buffer] = {IDS: ids}
    stored: dict[str, StoredIndex] = {}
    for name, index in indexes.items():
        if not np.array_equal(index.ids.values, first.ids.values):
            raise MismatchError(f"the index {name} has other ids than the first", expected="the same ids in one order")
        data = pa.py_buffer(faiss.serialize_index(index.engine.index))
        packed[f"{name}.faiss"] = data
        stored[name] = StoredIndex(**index.card.model_dump(exclude={"file"}), file=_described(f"{name}.faiss", data))
    card = FolderCard(origin=first.origin, ids=_described(IDS, ids), indexes=stored)
    packed[FILE] = pa.py_buffer(card.to_bytes())
    return packed


def save(indexes: dict[str, TitleIndex], folder: str) -> None:
    """Write indexes of the same titles to a folder or an object-store prefix."""
    storage = Storage(folder)
    for name, data in pack(indexes).items():
        storage.write(name, data)


def load(folder: str, name: str, origin: Origin) -> TitleIndex:
    """One index of a folder, mapped into memory where it is on local disk; see `TitleIndex.load`."""
    storage = Storage(folder)
    if not storage.exists(FILE):
        raise NotFoundError("there is no index here", where=folder, expected=f"a folder with {FILE}")
    data = storage.read(FILE)
    card = FolderCard.read(data, f"{folder}/{FILE}")
    card.require(origin, folder)
    if name not in card.indexes:
        raise NotFoundError(f"there is no index {name}", where=folder, expected=f"one of {', '.join(card.indexes)}")
    stored = card.indexes[name]
    ids = TitleIds.from_table(pq.ParquetFile(pa.BufferReader(_verified(storage, card.ids))).read())
    backend = _backend(stored, folder)
    index = _read(storage, stored.file)
    _refuse_misfit(index, stored, backend, len(ids), f"{folder}/{stored.file.name}")
    card.refuse_damage(data, f"{folder}/{FILE}")  # last, since errors that name two values say more
    engine = Engine.of(backend, index, stored.effort, ids.rank)
    depth = stored.recall.k if stored.recall else engine.depth
    engine = replace(engine, filter_from=stored.filter_from, reach=stored.reach, depth=depth)
    return TitleIndex(ids, engine, stored, card.origin)


def _described(name: str, data: pa.Buffer) -> StoredFile:
    return StoredFile(name=name, bytes=len(data), sha256=sha256(data))


def _backend(stored: StoredIndex, where: str) -> Backend:
    if stored.backend not in BACKENDS:
        raise MismatchError(
            f"the index is of type {stored.backend}, this samespace knows {', '.join(BACKENDS)}", where=where
        )
    return BACKENDS[stored.backend]


def _verified(storage: Storage, file: StoredFile) -> pa.Buffer:
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


def _read(storage: Storage, file: StoredFile) -> Any:
    data = _verified(storage, file)
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
