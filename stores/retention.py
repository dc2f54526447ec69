"""Which releases may go: all but the newest ones, the live one, and those that spaces and Feast's views refer to."""

from stores.journal import held_releases, read_move
from stores.release import Release
from stores.workspace import Workspace


def droppable(workspace: Workspace, keep: int) -> list[Release]:
    """Sealed releases beyond the newest `keep`, oldest first; never one that is live, going live, or referred to."""
    sealed = workspace.releases()
    kept = sealed[-keep:] if keep > 0 else []
    if pointer := workspace.pointer():
        kept = [*kept, workspace.release(pointer["release_id"])]
    needed = {release.release_id for release in kept} | {release.plan.reference_release for release in kept}
    needed |= held_releases(workspace.storage)
    if move := read_move(workspace):
        needed.add(move.release_id)
    return [release for release in sealed if release.release_id not in needed]


def drop(workspace: Workspace, keep: int) -> list[str]:
    """Remove what may go; its ids."""
    gone = droppable(workspace, keep)
    for release in gone:
        workspace.remove(release)
    return [release.release_id for release in gone]
