"""What an incremental night carries forward: the vectors of members whose history did not change.

A vector follows from the model, the preprocessing and the history; in the space also from the transform. Where all
of these are those of the release that is live, its aligned vector holds tonight too, bit for bit. The
release does not keep native vectors, so those of carried members are made by the inverse of the
transform: good for judging the space, and never aligned again (`alignment.job` puts the vectors of the release back).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.encode_config import EncodeConfig
from stores.columns import EMBEDDING, HISTORY_HASH, MEMBER_ID
from stores.release import Release

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Carry:
    """A release of the same model and space, and the ways between its aligned vectors and native ones.

    `native` takes vectors (n, s) to (n, e). `aligned` takes a shard of native rows, the id of tonight's release and the
    shard before into the space, in the pass that encodes; without it the alignment does so in one of its own.
    """

    release: Release
    native: Callable[[Matrix], Matrix]
    aligned: Callable[[pa.Table, str, pa.Table | None], pa.Table] | None = None

    def shard(self, name: str) -> pa.Table | None:
        """That release's shard of members, if it has one. Raises CorruptError where its bytes have changed."""
        path = f"members/{name}"
        return self.release.read_table(path) if self.release.storage.exists(path) else None

    @property
    def precision(self) -> dict[str, Any]:
        """In which precision that release was encoded."""
        found: dict[str, Any] = _encoded(self.release).get("precision", {})
        return found


def carried_from(config: EncodeConfig, carry: Carry | None, release: Release) -> Carry | None:
    """`carry` if vectors may be carried: the same preprocessing, and the same shards."""
    if carry is None or carry.release.plan.shards != release.plan.shards:
        return None
    return carry if _encoded(carry.release).get("preprocessing") == config.preprocessing else None


def unchanged(carry: Carry, before: pa.Table, today: pa.Table) -> pa.Table:
    """Rows of the shard `before` whose member has the same history in `today` (id and hash), with native vectors.

    All of its columns stay, `release_id` above all: it is the release in which a vector last changed.
    """
    found = pc.index_in(before[MEMBER_ID], value_set=today[MEMBER_ID].combine_chunks())
    same = pc.fill_null(pc.equal(today[HISTORY_HASH].take(found), before[HISTORY_HASH]), False)
    rows = before.filter(same)
    column = rows[EMBEDDING].combine_chunks()
    width = column.type.list_size
    vectors = carry.native(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
    native = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return rows.set_column(rows.schema.get_field_index(EMBEDDING), EMBEDDING, native)


def _encoded(release: Release) -> dict[str, Any]:
    report = release.report("encode")
    return report.metrics if report else {}
