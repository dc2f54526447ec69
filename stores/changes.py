"""What a night that carries members forward changed: a few rows beside each shard of `members/`.

`changes/part-00000.parquet` holds the rows of that shard that the night made and, without values, the members that left
since the release from which the others are carried. Who goes from that release to this one reads these files in place
of two whole releases. Each is written before its shard: where the shard is finished, they are there.
"""

import pyarrow as pa
import pyarrow.compute as pc

from stores.columns import MEMBER_ID
from stores.release import Release

CHANGES = "changes"
CHANGE = "change"
UPDATED, ARRIVED, DEPARTED = "updated", "arrived", "departed"
_MOST = 0.5
"""Where the night made more than this share of a shard, a copy of it saves nothing."""


def write_changes(release: Release, shard: str, before: pa.ChunkedArray, kept: pa.ChunkedArray, made: pa.Table) -> None:
    """Write the changes of a shard, named as in `members/`: the rows that were `made`, beside those `kept`.

    `before` are the ids of the older shard, `kept` those of its rows that are carried.
    """
    if made.num_rows > _MOST * (made.num_rows + len(kept)):
        return
    ids = made[MEMBER_ID]
    stays = pc.or_(pc.is_in(before, value_set=_whole(kept)), pc.is_in(before, value_set=_whole(ids)))
    left = before.filter(pc.invert(stays))
    gone = pa.table({MEMBER_ID: left, CHANGE: pa.array([DEPARTED] * len(left), pa.string())})
    known = pc.if_else(pc.is_in(ids, value_set=_whole(before)), UPDATED, ARRIVED)
    rows = pa.concat_tables([made.append_column(CHANGE, known), gone], promote_options="default")
    release.write_table(f"{CHANGES}/{shard}", rows)


def changes_since(old: Release | None, new: Release) -> dict[str, str]:
    """The file of changes by its shard's path, where `new` carried members forward from `old`; else of none."""
    report = new.report("encode")
    if old is None or report is None or report.metrics.get("carried_from") != old.release_id:
        return {}
    paths = (entry.path for entry in new.manifest.files if entry.path.startswith(f"{CHANGES}/"))
    return {path.replace(CHANGES, "members", 1): path for path in paths}


def _whole(ids: pa.ChunkedArray) -> pa.Array:
    return ids.combine_chunks()
