"""Whether tonight reuses the live release's vectors, and how reused members get into the space."""

from dataclasses import dataclass

import pyarrow as pa

from alignment.job import reusable_transform
from alignment.shard_tasks import align_table
from alignment.transform import AlignmentTransform
from embeddings.encode.reuse import ReusableVectors
from pipeline.config import Config
from stores.releases.release import Release


@dataclass(frozen=True, eq=False)
class AlignMembers:
    """The live transform, for the workers that encode: they write members in the space at once."""

    transform: AlignmentTransform

    def __call__(self, table: pa.Table) -> pa.Table:
        """Native rows of members in the space, every other column kept."""
        return align_table(table, "members", self.transform)


def reuse_from_live(config: Config, release: Release) -> ReusableVectors | None:
    """The live release where it is of the same model, space and mode, unless everything is to be encoded (`--full`)."""
    if release.plan.full or release.plan.previous_release is None:
        return None
    transform = reusable_transform(release, config.align)
    live = release.other(release.plan.previous_release)
    return None if transform is None else ReusableVectors(live, AlignMembers(transform))
