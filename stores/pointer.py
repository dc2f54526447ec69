"""The one mutable pointer: which release is live. It moves by one conditional write."""

import json
from datetime import datetime
from typing import Any

from stores.conditional import replace_if
from stores.errors import BusyError
from stores.workspace import POINTER, Workspace


def move_pointer(workspace: Workspace, release_id: str, space_id: str, at: datetime) -> None:
    """Make a release live, as of `at`. Raises BusyError if another writer moves the pointer in this moment."""
    storage = workspace.storage
    before = storage.read(POINTER) if storage.exists(POINTER) else None
    body: dict[str, Any] = {"release_id": release_id, "space_id": space_id, "promoted_at": at.isoformat()}
    if not replace_if(storage, POINTER, json.dumps(body).encode(), before):
        raise BusyError("another command moved the pointer in this moment", where=workspace.uri, fix="try again")


def promoted_at(workspace: Workspace) -> datetime | None:
    """When the live release became live; None before the first."""
    pointer = workspace.pointer()
    return None if pointer is None else datetime.fromisoformat(pointer["promoted_at"])
