"""The one mutable pointer: which release is live. It moves by one conditional write."""

from datetime import datetime
from typing import Any

from stores.checked_json import checked
from stores.conditional import replace_if
from stores.errors import BusyError
from stores.lease import check_token
from stores.release import Release
from stores.workspace import POINTER, Workspace


def move_pointer(workspace: Workspace, release: Release, at: datetime) -> None:
    """Make a release live, as of `at`. Raises BusyError if another command has the workspace or moved the pointer.

    Effective times strictly increase, so a pointer that is not older than `at` belongs to a newer move than this one.
    """
    storage = workspace.storage
    before = storage.read(POINTER) if storage.exists(POINTER) else None
    moved = promoted_at(workspace)
    if moved is not None and moved >= at:
        raise BusyError(
            f"a newer move made {workspace.current().release_id} live",
            where=workspace.uri,
            fix="leave the workspace to the newer command",
        )
    if release.token is not None:
        check_token(storage, release.token)
    body: dict[str, Any] = {
        "release_id": release.release_id, "space_id": release.space_id, "promoted_at": at.isoformat()
    }  # fmt: skip
    if not replace_if(storage, POINTER, checked(body), before):
        raise BusyError("another command moved the pointer in this moment", where=workspace.uri, fix="try again")


def promoted_at(workspace: Workspace) -> datetime | None:
    """When the live release became live; None before the first."""
    pointer = workspace.pointer()
    return None if pointer is None else datetime.fromisoformat(pointer["promoted_at"])
