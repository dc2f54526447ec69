"""What a night that carries members forward changed: a few rows beside each shard of `members/`.

`changes/part-00000.parquet` holds the rows of that shard that the night made and, without values, the members that left
since the release from which the others are carried. Who goes from that release to this one decodes these rows in place
of both shards. The file names that release and the shard's SHA-256: where they do not fit, because a night was killed
or a member erased, it is not used.
"""

import pyarrow as pa
import pyarrow.compute as pc

from stores.releases.release import FileEntry, Release
from stores.schema import MEMBER_ID

CHANGES_FOLDER = "changes"
CHANGE_COLUMN = "change"
UPDATED, ARRIVED, DEPARTED = "updated", "arrived", "departed"
_MAX_CHANGED_FRACTION = 0.5
"""Where the night made more than this share of a shard, nothing is written: most of it would be there twice."""


def write_changes(
    release: Release, shard: FileEntry, since: Release, before: pa.ChunkedArray, kept: pa.ChunkedArray, made: pa.Table
) -> None:
    """Write what changed in a shard that was just written: the rows that were `made`, beside those `kept`.

    `before` are the ids of the older shard, of the release `since`; `kept` those of its rows that are carried.
    """
    if made.num_rows > _MAX_CHANGED_FRACTION * (made.num_rows + len(kept)):
        return
    ids = made[MEMBER_ID]
    stays = pc.or_(pc.is_in(before, value_set=_combined(kept)), pc.is_in(before, value_set=_combined(ids)))
    left = before.filter(pc.invert(stays))
    gone = pa.table({MEMBER_ID: left, CHANGE_COLUMN: pa.array([DEPARTED] * len(left), pa.string())})
    known = pc.if_else(pc.is_in(ids, value_set=_combined(before)), UPDATED, ARRIVED)
    rows = pa.concat_tables([made.append_column(CHANGE_COLUMN, known), gone], promote_options="default")
    path = f"{CHANGES_FOLDER}/{shard.path.rsplit('/', 1)[-1]}"
    release.write_table(path, rows.replace_schema_metadata(_base_key(since, shard.sha256)))


def changes_since(old: Release | None, new: Release) -> dict[str, str]:
    """The file of changes by its shard's path, where `new` carried members forward from `old`; else of none."""
    report = new.stage_report("encode")
    if old is None or report is None or report.metrics.get("carried_from") != old.release_id:
        return {}
    return {
        path.replace(CHANGES_FOLDER, "members", 1): path for path in new.hashes if path.startswith(f"{CHANGES_FOLDER}/")
    }


def applies_to(changes: pa.Table, old: Release, shard_sha256: str) -> bool:
    """Whether a file of changes tells how to get from `old` to a shard of this hash."""
    told = changes.schema.metadata or {}
    return bool(_base_key(old, shard_sha256).items() <= told.items())


def _base_key(old: Release, shard_sha256: str) -> dict[bytes, bytes]:
    return {b"since": old.release_id.encode(), b"shard": shard_sha256.encode()}


def _combined(ids: pa.ChunkedArray) -> pa.Array:
    return ids.combine_chunks()
