"""Difference between two releases: entities whose row changed or is new, and those that left.

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
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.errors import CorruptError, MismatchError
from stores.feast.feature_views import FeatureViewSpec, history_folder
from stores.files.filesystem import Storage
from stores.files.parquet import table_of
from stores.releases.change_log import ARRIVED, CHANGE_COLUMN, DEPARTED, applies_to, changes_since
from stores.releases.previous_space import in_space
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.runtime import map_ordered
from stores.schema import EMBEDDING, ENCODED_AT, RELEASE_ID, TIMESTAMP_TYPE

_PREFETCH_PARTS = 2
"""Parts that are read while one is written."""


@dataclass(frozen=True)
class ReleaseDiff:
    """Part of a difference: `upserts` has the rows that are new or changed, `departed` the ids that left.

    `arrived` are the ids of those written that the older release has not got.
    """

    upserts: pa.Table
    departed: pa.Array
    arrived: pa.Array

    @property
    def rows(self) -> int:
        """Entities written and removed."""
        return int(self.upserts.num_rows) + len(self.departed)


class DiffCache:
    """Differences that history and online store both ask for; those that fit into `room` bytes are found once."""

    def __init__(self, room: int = 64 * 2**20) -> None:
        self._room = room
        self._kept: dict[tuple[str, str, str], list[ReleaseDiff]] = {}

    def between(self, view: FeatureViewSpec, old: Release | None, new: Release) -> Iterator[ReleaseDiff]:
        """What `iter_diffs` says."""
        key = (view.folder, old.release_id if old else "", new.release_id)
        if key in self._kept:
            yield from self._kept[key]
            return
        seen: list[ReleaseDiff] = []
        size = 0
        for delta in iter_diffs(view, old, new):
            size += delta.upserts.nbytes
            seen = [*seen, delta] if size <= self._room else []
            yield delta
        if size <= self._room:
            self._kept[key], self._room = seen, self._room - size


def iter_diffs(
    view: FeatureViewSpec, old: Release | None, new: Release, by_value: bool = False
) -> Iterator[ReleaseDiff]:
    """What to write and remove to get from `old` (None: from what nobody knows) to `new`, part by part.

    What `new` carried from `old` it tells by itself: a row that it made counts as changed though its values may be the
    same, unless `by_value`. A damaged file of `old` counts as unknown too. What is unknown is written in full, and
    whatever the view has ever served and `new` has not got departs. Raises CorruptError for a damaged file of `new`.
    """
    unknown, ids, unread = old is None, list[pa.Array](), set(files_of(view, new))
    told = {} if by_value else changes_since(old, new)
    for part in map_ordered(
        lambda pair: _diff_part(view, old, new, *pair, told), _pairs(view, old, new), _PREFETCH_PARTS
    ):
        unknown |= part.unknown
        unread -= part.read
        ids += part.ids
        if part.delta is not None and part.delta.rows:
            ids += [part.delta.departed]
            yield part.delta
    if unknown:
        ids += [_column(new.read_table(path, [view.join_key]), view.join_key) for path in sorted(unread)]
        yield from _departed_from_history(view, new, ids)


@dataclass(frozen=True)
class _DiffPart:
    """Files of `new` that were read, the ids in them, the difference, and whether the older ones were damaged."""

    read: set[str]
    ids: list[pa.Array]
    delta: ReleaseDiff | None
    unknown: bool


def _diff_part(
    view: FeatureViewSpec, old: Release | None, new: Release, before: list[str], after: list[str], told: dict[str, str]
) -> _DiffPart:
    changes = told.get(after[0]) if len(after) == 1 else None
    if old is not None and changes and (delta := _recorded_diff(view, old, new, after[0], changes)):
        return _DiffPart(set(), [], delta, False)
    unknown, later = False, _read(view, new, after)
    try:
        delta = compare(_read(view, old, before), later, view)
    except CorruptError:
        delta, unknown = compare(None, later, view), True
    ids = [] if later is None else [_column(later, view.join_key)]
    return _DiffPart(set(after), ids, delta, unknown)


def _recorded_diff(view: FeatureViewSpec, old: Release, new: Release, shard: str, changes: str) -> ReleaseDiff | None:
    """What the release says of a shard by itself, None where that does not fit; neither file may be damaged."""
    rows = new.read_table(changes, [*_columns(view), CHANGE_COLUMN])
    if not applies_to(rows, old, new.hashes[shard]):
        return None
    new.read_bytes(shard)
    _unique(rows, view.join_key)
    gone, arrived = (pc.equal(rows[CHANGE_COLUMN], kind) for kind in (DEPARTED, ARRIVED))
    ids = _column(rows, view.join_key)
    return ReleaseDiff(
        rows.filter(pc.invert(gone)).drop_columns([CHANGE_COLUMN]), ids.filter(gone), ids.filter(arrived)
    )


def compare(old: pa.Table | None, new: pa.Table | None, view: FeatureViewSpec) -> ReleaseDiff | None:
    """The difference between two tables with unique ids: rows of which one of the view's columns changed.

    Raises MismatchError where an id occurs twice or the kinds of ids differ.
    """
    key = view.join_key
    if new is None:
        return None if old is None else ReleaseDiff(old.slice(0, 0), _column(old, key), _column(old, key).slice(0, 0))
    _unique(new, key)
    if old is None:
        return ReleaseDiff(new, _column(new, key).slice(0, 0), _column(new, key))
    if old.schema.field(key).type != new.schema.field(key).type:
        kinds = f"{old.schema.field(key).type} and {new.schema.field(key).type}"
        raise MismatchError(f"{key} is {kinds} in two releases", expected="one kind of id per workspace")
    before, after = _column(old, key), _column(new, key)
    position = pc.index_in(after, value_set=before)
    known = pc.is_valid(position).to_numpy(zero_copy_only=False)
    changed, where = ~known, position.drop_null()
    for name in view.columns:
        same_rows = _column(new, name).filter(pa.array(known))
        changed[known] |= bitwise_changed(_column(old, name).take(where), same_rows)
    departed = before.filter(pc.invert(pc.is_in(before, value_set=after)))
    return ReleaseDiff(new.filter(pa.array(changed)), departed, after.filter(pa.array(~known)))


def vectors(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The embedding column of a table as a float32 matrix (rows, dim), without a copy where there is one chunk."""
    column = _column(table, EMBEDDING)
    flat: np.ndarray[Any, np.dtype[np.float32]] = column.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray[Any, np.dtype[np.float32]] = flat.reshape(len(column), column.type.list_size)
    return matrix


def files_of(view: FeatureViewSpec, release: Release) -> dict[str, str]:
    """Hash by path of a view's Parquet files in a sealed release."""
    there = ((path, found) for path, found in release.hashes.items() if path.startswith(f"{view.folder}/"))
    return {path: found for path, found in there if path.endswith(".parquet")}


def release_in_views(workspace: Workspace, release_id: str, space_id: str) -> Release:
    """A release whose rows the views of a space hold. Raises MismatchError if it is gone."""
    base = Release(workspace.uri, release_id)
    if not base.sealed:
        raise MismatchError(
            f"release {release_id}, whose rows the Feast views hold, is gone", where=workspace.uri, fix="restore it"
        )
    return in_space(base, space_id)


def _pairs(view: FeatureViewSpec, old: Release | None, new: Release) -> Iterator[tuple[list[str], list[str]]]:
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


def _read(view: FeatureViewSpec, release: Release | None, paths: list[str]) -> pa.Table | None:
    if release is None or not paths:
        return None
    return pa.concat_tables([release.read_table(path, _columns(view)) for path in paths])


def _columns(view: FeatureViewSpec) -> list[str]:
    """What is read of a view's files."""
    return [view.join_key, *view.columns, RELEASE_ID, ENCODED_AT]


def _departed_from_history(view: FeatureViewSpec, new: Release, ids: list[pa.Array]) -> Iterator[ReleaseDiff]:
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
            yield ReleaseDiff(schema.empty_table(), gone, gone.slice(0, 0))


def _column(table: pa.Table, key: str) -> pa.Array:
    column = table.column(key)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def _unique(table: pa.Table, key: str) -> None:
    ids = _column(table, key)
    distinct = pc.count_distinct(ids, mode="all").as_py()
    if distinct != len(ids):
        raise MismatchError(f"{len(ids) - distinct} rows repeat a {key}", expected="one row per entity in a release")


Flags = npt.NDArray[np.bool_]


def bitwise_changed(old: pa.Array, new: pa.Array) -> Flags:
    """Whether row i differs, (n,) bool, for two columns of n rows; lists may have any length, null equals null.

    Floats are the same if their bits are: −0.0 differs from 0.0, and a NaN equals itself.
    """
    if old.type.equals(new.type) and pa.types.is_fixed_size_list(new.type):
        return _fixed(old, new)
    if pa.types.is_list(new.type) or pa.types.is_fixed_size_list(new.type):
        return _lists(old, new)
    same = pc.equal(_bits(old), _bits(new)).fill_null(False).to_numpy(zero_copy_only=False)
    return np.asarray(~(same | _both_null(old, new)))


def _fixed(old: pa.Array, new: pa.Array) -> Flags:
    """Every row has the same number of values: one comparison of two matrices."""
    width = new.type.list_size
    before, after = (_bits(one.flatten()).to_numpy(zero_copy_only=False).reshape(-1, width) for one in (old, new))
    return np.asarray((before != after).any(axis=1))


def _lists(old: pa.Array, new: pa.Array) -> Flags:
    lengths = [pc.list_value_length(one).fill_null(-1).to_numpy(zero_copy_only=False) for one in (old, new)]
    changed = np.asarray(lengths[0] != lengths[1])
    rows = np.flatnonzero(~changed & (lengths[1] > 0))
    if len(rows):
        before, after = (one.take(pa.array(rows)).flatten() for one in (old, new))
        values = bitwise_changed(before, after)
        begins = np.concatenate([[0], np.cumsum(lengths[1][rows])[:-1]]).astype(np.int64)
        changed[rows] = np.logical_or.reduceat(values, begins)
    return changed


def _bits(values: pa.Array) -> pa.Array:
    kinds: list[tuple[Any, Any]] = [(pa.float32(), pa.uint32()), (pa.float64(), pa.uint64())]
    for kind, bits in kinds:
        if values.type.equals(kind):
            return values.view(bits)
    return values


def _both_null(old: pa.Array, new: pa.Array) -> Flags:
    nulls = pc.and_(pc.is_null(old), pc.is_null(new))
    return np.asarray(nulls.to_numpy(zero_copy_only=False))


def with_versions(view: FeatureViewSpec, release: Release, path: str, table: pa.Table) -> pa.Table:
    """A table of a view's id and columns with `release_id` and `encoded_at`, as `path` of a release being built.

    Rows are compared with the file of the same path in the release that was live when the night began, if both lie in
    one space; a path of one release holds the same entities in the next (see `delta`).
    """
    return with_versions_beside(_base_rows(view, release, path), view, release, table)


def with_versions_beside(before: pa.Table | None, view: FeatureViewSpec, release: Release, table: pa.Table) -> pa.Table:
    """The same, where the rows to compare with are known; None where all rows are new."""
    origin = pa.table(
        {
            RELEASE_ID: pa.array([release.release_id] * table.num_rows, pa.string()),
            ENCODED_AT: pa.array([release.plan.created_at] * table.num_rows, TIMESTAMP_TYPE),
        }
    )
    if before is not None and table.num_rows:
        position = pc.index_in(table[view.join_key].combine_chunks(), value_set=before[view.join_key].combine_chunks())
        origin = _keep_versions(view, table, before, position, origin)
    kept = table.select([view.join_key, *view.columns])
    return kept.append_column(RELEASE_ID, origin[RELEASE_ID]).append_column(ENCODED_AT, origin[ENCODED_AT])


def _keep_versions(
    view: FeatureViewSpec, table: pa.Table, before: pa.Table, position: pa.Array, origin: pa.Table
) -> pa.Table:
    known = pc.is_valid(position).to_numpy(zero_copy_only=False)
    where = position.drop_null()
    same = known.copy()
    for name in view.columns:
        old, new = _combined(before, name).take(where), _combined(table, name).filter(pa.array(known))
        same[known] &= ~bitwise_changed(old, new)
    rows = np.where(same, position.fill_null(0).to_numpy(zero_copy_only=False), 0)
    picked = before.select([RELEASE_ID, ENCODED_AT]).take(pa.array(rows))
    mask = pa.array(same)
    columns = {name: pc.if_else(mask, _combined(picked, name), _combined(origin, name)) for name in origin.column_names}
    return pa.table(columns)


def _base_rows(view: FeatureViewSpec, release: Release, path: str) -> pa.Table | None:
    if release.plan.previous_release is None:
        return None
    previous = release.other(release.plan.previous_release)
    if not previous.sealed or previous.space_id != release.space_id or previous.plan.shards != release.plan.shards:
        return None
    found = previous.read_table(path) if path in files_of(view, previous) else None
    return found if found is not None and found.num_rows else None


def _combined(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
