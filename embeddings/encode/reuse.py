"""What an incremental night carries forward: the vectors of members whose history did not change.

A vector follows from the model, the preprocessing and the history; in the space also from the transform. Where all
of these are those of the release that is live, its aligned vector holds tonight too, bit for bit. So the transform is
known before anything is encoded, and shards of members are written in the space at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.encode.config import EncodeConfig
from stores.releases.release import Release
from stores.schema import HISTORY_HASH, MEMBER_ID


@dataclass(frozen=True)
class ReusableVectors:
    """A release of the same model and space, and the way of native rows of members into that space."""

    release: Release
    to_space: Callable[[pa.Table], pa.Table]

    def shard(self, name: str) -> pa.Table | None:
        """That release's shard of members, if it has one. Raises CorruptError where its bytes have changed."""
        path = f"members/{name}"
        return self.release.read_table(path) if self.release.storage.exists(path) else None

    @property
    def precision(self) -> dict[str, Any]:
        """In which precision that release was encoded."""
        found: dict[str, Any] = _encode_report(self.release).get("precision", {})
        return found


def reusable_from(config: EncodeConfig, carry: ReusableVectors | None, release: Release) -> ReusableVectors | None:
    """`carry` if vectors may be carried: the same preprocessing, and the same shards."""
    if carry is None or carry.release.plan.shards != release.plan.shards:
        return None
    return carry if _encode_report(carry.release).get("preprocessing") == config.preprocessing else None


def unchanged_rows(before: pa.Table, today: pa.Table) -> pa.Table:
    """Rows of the shard `before` whose member has the same history in `today` (id and hash).

    All of their columns stay, `release_id` above all: it is the release in which a vector last changed.
    """
    found = pc.index_in(before[MEMBER_ID], value_set=today[MEMBER_ID].combine_chunks())
    return before.filter(pc.fill_null(pc.equal(today[HISTORY_HASH].take(found), before[HISTORY_HASH]), False))


def _encode_report(release: Release) -> dict[str, Any]:
    report = release.stage_report("encode")
    return report.metrics if report else {}
