"""Whether tonight may carry vectors forward: the alignment knows the space, the encode job the histories."""

from dataclasses import dataclass

import pyarrow as pa

from alignment.shards import aligned
from alignment.spaces import kept_transform
from alignment.transform import AlignmentTransform
from embeddings.carry import Carry
from pipeline.config import Config
from stores.release import Release


@dataclass(frozen=True, eq=False)
class Placing:
    """The live transform, for the workers that encode: they write aligned shards in the same pass."""

    transform: AlignmentTransform

    def __call__(self, table: pa.Table, release_id: str, before: pa.Table | None) -> pa.Table:
        """A shard of native members in the space; those carried forward as they are in the shard `before`."""
        return aligned(table, "members", self.transform, release_id, before)


def carry_for(config: Config, release: Release) -> Carry | None:
    """The live release where it is of the same model, space and mode, unless everything is to be encoded (`--full`)."""
    if release.plan.full or release.plan.previous_release is None:
        return None
    transform = kept_transform(release, config.align)
    live = release.sibling(release.plan.previous_release)
    return None if transform is None else Carry(live, transform.inverse().members, Placing(transform))
