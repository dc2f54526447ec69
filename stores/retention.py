"""Which releases may go: all but the newest ones, the live one, and those that spaces and Feast's views refer to."""

from datetime import UTC, datetime, timedelta

from stores.journal import held_releases, read_move
from stores.leftovers import sweep, tidy
from stores.release import Release
from stores.workspace import Workspace

STALE = timedelta(days=1)
"""Temporary files of this age belong to no process that still runs."""


def droppable(workspace: Workspace, keep: int) -> list[Release]:
    """Sealed releases beyond the newest `keep`, oldest first; never one that is live, going live, or referred to."""
    sealed = workspace.releases()
    kept = sealed[-keep:] if keep > 0 else []
    if pointer := workspace.pointer():
        kept = [*kept, workspace.release(pointer["release_id"])]
    held = held_releases(workspace.storage)
    kept = [*kept, *(release for release in sealed if release.release_id in held)]
    needed = held | {name for release in kept for name in _referred(release)}
    if move := read_move(workspace):
        needed.add(move.release_id)
    return [release for release in sealed if release.release_id not in needed]


def _referred(release: Release) -> set[str | None]:
    """A release, the one that opened its space, and those that older spaces serve or are mapped by while it is live."""
    older = release.manifest.old_spaces.values()
    found = {name for old in older for name in (old.release_id, old.reference_release, old.last_release)}
    return {release.release_id, release.plan.reference_release, *found}


def drop(workspace: Workspace, keep: int) -> list[str]:
    """Remove what may go, the models that ran only in it, and what killed processes left; the ids of the releases."""
    gone = droppable(workspace, keep)
    models = {release.plan.model_id for release in gone}
    for release in gone:
        workspace.remove(release)
    left = [*workspace.releases(), *(one for one in workspace.staged() if one.storage.exists("plan.json"))]
    models -= {release.plan.model_id for release in left} | {workspace.next_model()}
    for model_id in models & set(workspace.models.folders()):
        workspace.models.delete_tree(model_id)
    for release in workspace.releases():
        tidy(release)
    sweep(workspace.storage, before=datetime.now(UTC) - STALE)
    return [release.release_id for release in gone]
