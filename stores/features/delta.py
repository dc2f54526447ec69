"""The difference between two releases: entities whose vector changed or is new, and those that left.

Shards are a stable hash of the id, so that two releases with the same number of shards are compared
file by file, in the memory of one shard; a file whose hash did not change is not even read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stores import columns
from stores.errors import MismatchError
from stores.features.views import MEMBERS, Kind
from stores.release import Release

VALUES = [columns.EMBEDDING, columns.RELEASE_ID, columns.ENCODED_AT]


@dataclass(frozen=True)
class Delta:
    """Part of a difference: `written` has the id and VALUES of new and changed rows, `departed` the ids that left."""

    written: pa.Table
    departed: pa.Array

    @property
    def rows(self) -> int:
        """Entities written and removed."""
        return int(self.written.num_rows) + len(self.departed)


def deltas(kind: Kind, old: Release | None, new: Release) -> Iterator[Delta]:
    """What to write and remove to get from `old` (None: from nothing) to `new`, part by part."""
    for before, after in _pairs(kind, old, new):
        delta = compare(_read(kind, old, before), _read(kind, new, after), kind.join_key)
        if delta is not None and delta.rows:
            yield delta


def compare(old: pa.Table | None, new: pa.Table | None, key: str) -> Delta | None:
    """The difference between two tables with unique ids.

    Vectors are the same if their bytes are: −0.0 differs from 0.0, and a NaN equals itself.
    Raises MismatchError where an id occurs twice or the kinds of ids differ.
    """
    if new is None:
        return None if old is None else Delta(old.slice(0, 0), _column(old, key))
    _unique(new, key)
    if old is None:
        return Delta(new, _column(new, key).slice(0, 0))
    if old.schema.field(key).type != new.schema.field(key).type:
        kinds = f"{old.schema.field(key).type} and {new.schema.field(key).type}"
        raise MismatchError(f"{key} is {kinds} in two releases", expected="one kind of id per workspace")
    before, after = _column(old, key), _column(new, key)
    position = pc.index_in(after, value_set=before)
    changed = _changed(vectors(old), vectors(new), position)
    departed = before.filter(pc.invert(pc.is_in(before, value_set=after)))
    return Delta(new.filter(pa.array(changed)), departed)


def vectors(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The embedding column of a table as a float32 matrix (rows, dim), without a copy where there is one chunk."""
    column = table.column(columns.EMBEDDING).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
    flat: np.ndarray[Any, np.dtype[np.float32]] = column.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray[Any, np.dtype[np.float32]] = flat.reshape(len(column), column.type.list_size)
    return matrix


def _changed(old: np.ndarray[Any, Any], new: np.ndarray[Any, Any], position: pa.Array) -> np.ndarray[Any, Any]:
    known = pc.is_valid(position).to_numpy(zero_copy_only=False)
    if old.shape[1] != new.shape[1]:
        return np.ones(len(new), dtype=bool)
    where = position.drop_null().to_numpy().astype(np.int64)
    changed = ~known
    changed[known] = (old.view(np.uint32)[where] != new.view(np.uint32)[known]).any(axis=1)
    return np.asarray(changed)


def _pairs(kind: Kind, old: Release | None, new: Release) -> Iterator[tuple[list[str], list[str]]]:
    after = _files(kind, new)
    if old is None:
        yield from (([], [path]) for path in after)
        return
    before = _files(kind, old)
    same = old.plan.shards == new.plan.shards and kind is MEMBERS
    if not same and (len(before), len(after)) != (1, 1):
        yield list(before), list(after)
        return
    for path in sorted({*before, *after}):
        if before.get(path) is None or before.get(path) != after.get(path):
            yield [path] if path in before else [], [path] if path in after else []


def _files(kind: Kind, release: Release) -> dict[str, str]:
    """Hash by path of the Parquet files of a sealed release."""
    there = (entry for entry in release.manifest.files if entry.path.startswith(f"{kind.folder}/"))
    return {entry.path: entry.sha256 for entry in there}


def _read(kind: Kind, release: Release | None, paths: list[str]) -> pa.Table | None:
    if release is None or not paths:
        return None
    wanted = [kind.join_key, *VALUES]
    return pa.concat_tables([release.storage.read_table(path, wanted) for path in paths])


def _column(table: pa.Table, key: str) -> pa.Array:
    column = table.column(key)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def _unique(table: pa.Table, key: str) -> None:
    ids = _column(table, key)
    distinct = pc.count_distinct(ids, mode="all").as_py()
    if distinct != len(ids):
        raise MismatchError(f"{len(ids) - distinct} rows repeat a {key}", expected="one row per entity in a release")
