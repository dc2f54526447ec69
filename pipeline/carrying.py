"""Whether tonight may carry vectors forward: the alignment knows the space, the encode job the histories."""

from alignment.spaces import kept_transform
from embeddings.carry import Carry
from pipeline.config import Config
from stores.release import Release


def carry_for(config: Config, release: Release) -> Carry | None:
    """The live release where it is of the same model, space and mode, unless everything is to be encoded (`--full`)."""
    if release.plan.full or release.plan.previous_release is None:
        return None
    transform = kept_transform(release, config.align)
    live = release.sibling(release.plan.previous_release)
    return None if transform is None else Carry(live, transform.inverse().members)
