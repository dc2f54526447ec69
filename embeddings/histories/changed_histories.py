"""Histories that changed since the live release, set apart: the encode job reads them instead of a whole shard.

The histories stage writes them beside the shard, `work/changed/part-00000.parquet`. They are a copy to save reading:
which members are encoded follows from the hashes of the shard itself, and a copy that does not fit them is not used.
"""

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.events import TEXT_COLUMNS
from stores.releases.release import Release
from stores.schema import HISTORY_HASH, MEMBER_ID

IDENTITY_COLUMNS = [MEMBER_ID, HISTORY_HASH]
_MAX_CHANGED_FRACTION = 0.5
"""Where more than this share of a shard changed, a copy of it saves nothing."""


def incremental_base(release: Release) -> Release | None:
    """The live release if its members may be carried forward: of the same model and shards, and not `--full`."""
    plan = release.plan
    live = None if plan.full or plan.previous_release is None else release.other(plan.previous_release)
    return live if live and (live.manifest.model_id, live.plan.shards) == (plan.model_id, plan.shards) else None


def write_changed_histories(release: Release, live: Release, shard: str, histories: pa.Table) -> None:
    """Write those of a shard's histories that the live release does not have with the same hash."""
    path, target = f"members/{shard}", _changed_file(shard)
    if not live.storage.exists(path) or release.completed_file(target):
        return
    before = live.read_table(path, columns=IDENTITY_COLUMNS)
    if before.schema.field(MEMBER_ID).type != histories.schema.field(MEMBER_ID).type:
        return
    changed = pc.invert(is_unchanged(before, histories))
    if (pc.sum(changed).as_py() or 0) <= _MAX_CHANGED_FRACTION * histories.num_rows:
        release.write_table(target, histories.filter(changed))


def is_unchanged(before: pa.Table, today: pa.Table) -> pa.ChunkedArray:
    """For each row of `today` whether `before` has that member with the same hash: no nulls."""
    found = pc.index_in(today[MEMBER_ID], value_set=before[MEMBER_ID].combine_chunks())
    return pc.fill_null(pc.equal(before[HISTORY_HASH].take(found), today[HISTORY_HASH]), False)


def read_changed_histories(release: Release, shard: str, wanted: pa.Table) -> pa.Table:
    """The histories of the members and hashes in `wanted`: those set apart, else those rows of the whole shard."""
    path = _changed_file(shard)
    if release.storage.exists(path):
        table = read_dictionary_encoded(release, path)
        if table.select(IDENTITY_COLUMNS).equals(wanted):
            return table
    table = read_dictionary_encoded(release, f"histories/{shard}")
    return table.filter(pc.is_in(table[MEMBER_ID], value_set=wanted[MEMBER_ID].combine_chunks()))


def read_dictionary_encoded(release: Release, path: str) -> pa.Table:
    """A shard of histories whose texts are left as codes, which is most of the time of reading."""
    return release.read_table(path, dictionaries=[f"{name}.list.element" for name in TEXT_COLUMNS])


def _changed_file(shard: str) -> str:
    return f"work/changed/{shard}"
