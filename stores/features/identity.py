"""Who a workspace is: `workspace.json`, which moves and is copied with it."""

import secrets

from pydantic import Field, ValidationError

from stores.checked_json import read_checked
from stores.errors import CorruptError
from stores.settings import Settings
from stores.storage import Storage

FILE = "workspace.json"


class Identity(Settings):
    """What `workspace.json` says: who the workspace is, and what it knows of each online store that it has written.

    `place` is where it was when it last wrote into a store that others can reach: a copy finds its original there.
    """

    workspace_id: str = Field(default_factory=lambda: secrets.token_hex(8))
    place: str = ""
    generations: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pending: str = ""
    clearing: bool = False
    """A take-over was begun, and rows of the other workspace may still be there."""


def identity_of(storage: Storage) -> Identity:
    """Return the identity of a workspace; a new one, not yet written, where it has none.

    Raises CorruptError for a damaged file.
    """
    if not storage.exists(FILE):
        return Identity()
    try:
        return Identity(**read_checked(storage, FILE))
    except ValidationError as error:
        raise CorruptError(
            f"{FILE} is not what was written", where=storage.uri, fix="restore the file from a backup"
        ) from error
