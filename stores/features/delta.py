"""The difference between two releases: entities whose row changed or is new, and those that left.

Shards are a stable hash of the id, so that two releases with the same number of shards are compared
file by file, in the memory of a few shards; a file whose hash did not change is not even read. A release that carried
members forward from the older one says itself what changed in most shards, whose older files are not read. What the
older release held in a damaged file that has to be read is not known: there everything is written, and the history says
who may have to leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stores import columns
from stores.ahead import in_order
from stores.changes import ARRIVED, CHANGE, DEPARTED, changes_since, fits
from stores.errors import CorruptError, MismatchError
from stores.features.sameness import changed_rows
from stores.features.views import View, history_folder
from stores.old_space import in_space
from stores.parquet import table_of
from stores.release import Release
from stores.storage import Storage
from stores.workspace import Workspace

_AHEAD = 2
"""Parts that are read while one is written."""


@dataclass(frozen=True)
class Delta:
    """Part of a difference: `written` has the rows that are new or changed, `departed` the ids that left.

    `arrived` are the ids of those written that the older release has not got.
    """

    written: pa.Table
    departed: pa.Array
    arrived: pa.Array

    @property
    def rows(self) -> int:
        """Entities written and removed."""
        return int(self.written.num_rows) + len(self.departed)


class Differences:
    """Differences that history and online store both ask for; those that fit into `room` bytes are found once."""

    def __init__(self, room: int = 64 * 2**20) -> None:
        self._room = room
        self._kept: dict[tuple[str, str, str], list[Delta]] = {}

    def between(self, view: View, old: Release | None, new: Release) -> Iterator[Delta]:
        """What `deltas` says."""
        key = (view.folder, old.release_id if old else "", new.release_id)
        if key in self._kept:
            yield from self._kept[key]
            return
        seen: list[Delta] = []
        size = 0
        for delta in deltas(view, old, new):
            size += delta.written.nbytes
            seen = [*seen, delta] if size <= self._room else []
            yield delta
        if size <= self._room:
            self._kept[key], self._room = seen, self._room - size


def deltas(view: View, old: Release | None, new: Release, by_value: bool = False) -> Iterator[Delta]:
    """What to write and remove to get from `old` (None: from what nobody knows) to `new`, part by part.

    What `new` carried from `old` it tells by itself: a row that it made counts as changed though its values may be the
    same, unless `by_value`. A damaged file of `old` counts as unknown too. What is unknown is written in full, and
    whatever the view has ever served and `new` has not got departs. Raises CorruptError for a damaged file of `new`.
    """
    unknown, ids, unread = old is None, list[pa.Array](), set(files_of(view, new))
    told = {} if by_value else changes_since(old, new)
    for part in in_order(lambda pair: _part(view, old, new, *pair, told), _pairs(view, old, new), _AHEAD):
        unknown |= part.unknown
        unread -= part.read
        ids += part.ids
        if part.delta is not None and part.delta.rows:
            ids += [part.delta.departed]
            yield part.delta
    if unknown:
        ids += [_column(new.read_table(path, [view.join_key]), view.join_key) for path in sorted(unread)]
        yield from _ever_served(view, new, ids)


@dataclass(frozen=True)
class _Part:
    """Files of `new` that were read, the ids in them, the difference, and whether the older ones were damaged."""

    read: set[str]
    ids: list[pa.Array]
    delta: Delta | None
    unknown: bool


def _part(
    view: View, old: Release | None, new: Release, before: list[str], after: list[str], told: dict[str, str]
) -> _Part:
    changes = told.get(after[0]) if len(after) == 1 else None
    if old is not None and changes and (delta := _told(view, old, new, after[0], changes)):
        return _Part(set(), [], delta, False)
    unknown, later = False, _read(view, new, after)
    try:
        delta = compare(_read(view, old, before), later, view)
    except CorruptError:
        delta, unknown = compare(None, later, view), True
    ids = [] if later is None else [_column(later, view.join_key)]
    return _Part(set(after), ids, delta, unknown)


def _told(view: View, old: Release, new: Release, shard: str, changes: str) -> Delta | None:
    """What the release says of a shard by itself, None where that does not fit; neither file may be damaged."""
    rows = new.read_table(changes, [*_columns(view), CHANGE])
    if not fits(rows, old, new.hashes[shard]):
        return None
    new.read_bytes(shard)
    _unique(rows, view.join_key)
    gone, arrived = (pc.equal(rows[CHANGE], kind) for kind in (DEPARTED, ARRIVED))
    ids = _column(rows, view.join_key)
    return Delta(rows.filter(pc.invert(gone)).drop_columns([CHANGE]), ids.filter(gone), ids.filter(arrived))


def compare(old: pa.Table | None, new: pa.Table | None, view: View) -> Delta | None:
    """The difference between two tables with unique ids: rows of which one of the view's columns changed.

    Raises MismatchError where an id occurs twice or the kinds of ids differ.
    """
    key = view.join_key
    if new is None:
        return None if old is None else Delta(old.slice(0, 0), _column(old, key), _column(old, key).slice(0, 0))
    _unique(new, key)
    if old is None:
        return Delta(new, _column(new, key).slice(0, 0), _column(new, key))
    if old.schema.field(key).type != new.schema.field(key).type:
        kinds = f"{old.schema.field(key).type} and {new.schema.field(key).type}"
        raise MismatchError(f"{key} is {kinds} in two releases", expected="one kind of id per workspace")
    before, after = _column(old, key), _column(new, key)
    position = pc.index_in(after, value_set=before)
    known = pc.is_valid(position).to_numpy(zero_copy_only=False)
    changed, where = ~known, position.drop_null()
    for name in view.columns:
        same_rows = _column(new, name).filter(pa.array(known))
        changed[known] |= changed_rows(_column(old, name).take(where), same_rows)
    departed = before.filter(pc.invert(pc.is_in(before, value_set=after)))
    return Delta(new.filter(pa.array(changed)), departed, after.filter(pa.array(~known)))


def vectors(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The embedding column of a table as a float32 matrix (rows, dim), without a copy where there is one chunk."""
    column = _column(table, columns.EMBEDDING)
    flat: np.ndarray[Any, np.dtype[np.float32]] = column.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray[Any, np.dtype[np.float32]] = flat.reshape(len(column), column.type.list_size)
    return matrix


def files_of(view: View, release: Release) -> dict[str, str]:
    """Hash by path of a view's Parquet files in a sealed release."""
    there = ((path, found) for path, found in release.hashes.items() if path.startswith(f"{view.folder}/"))
    return {path: found for path, found in there if path.endswith(".parquet")}


def held_by(workspace: Workspace, release_id: str, space_id: str) -> Release:
    """A release whose rows the views of a space hold. Raises MismatchError if it is gone."""
    base = Release(workspace.uri, release_id)
    if not base.sealed:
        raise MismatchError(
            f"release {release_id}, whose rows the Feast views hold, is gone", where=workspace.uri, fix="restore it"
        )
    return in_space(base, space_id)


def _pairs(view: View, old: Release | None, new: Release) -> Iterator[tuple[list[str], list[str]]]:
    after = files_of(view, new)
    if old is None:
        yield from (([], [path]) for path in after)
        return
    before = files_of(view, old)
    same = old.plan.shards == new.plan.shards and view.entity == "member"
    if not same and (len(before), len(after)) != (1, 1):
        yield list(before), list(after)
        return
    for path in sorted({*before, *after}):
        if before.get(path) is None or before.get(path) != after.get(path):
            yield [path] if path in before else [], [path] if path in after else []


def _read(view: View, release: Release | None, paths: list[str]) -> pa.Table | None:
    if release is None or not paths:
        return None
    return pa.concat_tables([release.read_table(path, _columns(view)) for path in paths])


def _columns(view: View) -> list[str]:
    """What is read of a view's files."""
    return [view.join_key, *view.columns, columns.RELEASE_ID, columns.ENCODED_AT]


def _ever_served(view: View, new: Release, ids: list[pa.Array]) -> Iterator[Delta]:
    """As departures, the entities that the view has ever served in the space, but for `ids`.

    A damaged file of the history is passed over; `samespace doctor --verify` names it.
    """
    storage, folder = Storage(new.workspace_uri), history_folder(view, new.space_id)
    known = pa.concat_arrays(ids) if ids else None
    for path in storage.files(folder):
        try:
            told = _column(table_of(storage.read(path), path, [view.join_key]), view.join_key)
        except CorruptError:
            continue
        gone = (told if known is None else told.filter(pc.invert(pc.is_in(told, value_set=known)))).unique()
        known = gone if known is None else pa.concat_arrays([known, gone])
        if len(gone):
            schema = new.schema(view.folder) if files_of(view, new) else storage.dataset(folder).schema
            yield Delta(schema.empty_table(), gone, gone.slice(0, 0))


def _column(table: pa.Table, key: str) -> pa.Array:
    column = table.column(key)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def _unique(table: pa.Table, key: str) -> None:
    ids = _column(table, key)
    distinct = pc.count_distinct(ids, mode="all").as_py()
    if distinct != len(ids):
        raise MismatchError(f"{len(ids) - distinct} rows repeat a {key}", expected="one row per entity in a release")
