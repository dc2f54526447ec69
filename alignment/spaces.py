"""Which transform a night may keep, and which number a space of its own would get."""

from alignment.config import AlignmentConfig
from alignment.transform import AlignmentTransform
from stores.release import Release
from stores.workspace import Workspace


def kept_transform(release: Release, config: AlignmentConfig) -> AlignmentTransform | None:
    """The live release's transform where it is of the same model, in the planned space and of the same mode."""
    plan = release.plan
    if plan.previous_release is None:
        return None
    live = release.sibling(plan.previous_release)
    if live.plan.model_id != plan.model_id or live.space_id != plan.space_id:
        return None
    transform = AlignmentTransform.from_bytes(live.storage.read("transform.safetensors"), where=repr(live))
    return transform if transform.mode == config.mode else None


def next_space(release: Release) -> str:
    """A decimal number above that of every earlier space, held releases included: none is used twice."""
    sealed = Workspace.open(release.workspace_uri).releases()
    used = [int(other.space_id) for other in sealed if other.release_id < release.release_id]
    return str(1 + max([int(release.plan.space_id), *used]))
