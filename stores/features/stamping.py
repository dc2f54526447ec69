"""When a row last changed: rows that equal the live release's keep their release and time, others get this one's."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stores.columns import ENCODED_AT, RELEASE_ID, TIME
from stores.features.delta import files_of
from stores.features.sameness import changed_rows
from stores.features.views import View
from stores.release import Release


def stamped(view: View, release: Release, path: str, table: pa.Table) -> pa.Table:
    """A table of a view's id and columns with `release_id` and `encoded_at`, as `path` of a release being built.

    Rows are compared with the file of the same path in the release that was live when the night began, if both lie in
    one space; a path of one release holds the same entities in the next (see `delta`).
    """
    return stamped_beside(_before(view, release, path), view, release, table)


def stamped_beside(before: pa.Table | None, view: View, release: Release, table: pa.Table) -> pa.Table:
    """The same, where the rows to compare with are known; None where all rows are new."""
    origin = pa.table(
        {
            RELEASE_ID: pa.array([release.release_id] * table.num_rows, pa.string()),
            ENCODED_AT: pa.array([release.plan.created_at] * table.num_rows, TIME),
        }
    )
    if before is not None and table.num_rows:
        position = pc.index_in(table[view.join_key].combine_chunks(), value_set=before[view.join_key].combine_chunks())
        origin = _carried(view, table, before, position, origin)
    kept = table.select([view.join_key, *view.columns])
    return kept.append_column(RELEASE_ID, origin[RELEASE_ID]).append_column(ENCODED_AT, origin[ENCODED_AT])


def _carried(view: View, table: pa.Table, before: pa.Table, position: pa.Array, origin: pa.Table) -> pa.Table:
    known = pc.is_valid(position).to_numpy(zero_copy_only=False)
    where = position.drop_null()
    same = known.copy()
    for name in view.columns:
        old, new = _whole(before, name).take(where), _whole(table, name).filter(pa.array(known))
        same[known] &= ~changed_rows(old, new)
    rows = np.where(same, position.fill_null(0).to_numpy(zero_copy_only=False), 0)
    picked = before.select([RELEASE_ID, ENCODED_AT]).take(pa.array(rows))
    mask = pa.array(same)
    columns = {name: pc.if_else(mask, _whole(picked, name), _whole(origin, name)) for name in origin.column_names}
    return pa.table(columns)


def _before(view: View, release: Release, path: str) -> pa.Table | None:
    if release.plan.previous_release is None:
        return None
    previous = release.sibling(release.plan.previous_release)
    if not previous.sealed or previous.space_id != release.space_id or previous.plan.shards != release.plan.shards:
        return None
    found = previous.read_table(path) if path in files_of(view, previous) else None
    return found if found is not None and found.num_rows else None


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
