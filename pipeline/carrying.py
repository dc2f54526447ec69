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
    """The live transform, for the workers that encode: they write members in the space at once."""

    transform: AlignmentTransform

    def __call__(self, table: pa.Table) -> pa.Table:
        """Native rows of members in the space, every other column kept."""
        return aligned(table, "members", self.transform)


def carry_for(config: Config, release: Release) -> Carry | None:
    """The live release where it is of the same model, space and mode, unless everything is to be encoded (`--full`)."""
    if release.plan.full or release.plan.previous_release is None:
        return None
    transform = kept_transform(release, config.align)
    live = release.sibling(release.plan.previous_release)
    return None if transform is None else Carry(live, Placing(transform))
