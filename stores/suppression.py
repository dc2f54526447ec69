"""Who was erased: salted hashes of member ids, so that tomorrow's lake does not bring anybody back.

The salt is made once per workspace and stays in it. A hash does not tell an id to a reader who has not got the
salt; one who has can only test an id that he already knows.
"""

import hashlib
import secrets
from dataclasses import dataclass

from stores.checked_json import checked, read_facts
from stores.settings import Settings
from stores.storage import Storage

PATH = "suppressed.json"
CURE = f"restore {PATH} from a copy; without it the next night brings the erased members back: erase each of them again"


class _Listed(Settings):
    """What the file says."""

    salt: str
    hashes: list[str]


@dataclass(frozen=True)
class Suppression:
    """A workspace's salt and the hashes of the members that were erased."""

    salt: str
    hashes: frozenset[str]

    def name(self, member_id: int | str) -> str:
        """The salted SHA-256 of an id: of the salt followed by its text (whole numbers in decimal), in hex."""
        return hashlib.sha256(f"{self.salt}{member_id}".encode()).hexdigest()

    def holds(self, member_id: int | str) -> bool:
        """Whether a member was erased."""
        return self.name(member_id) in self.hashes


def suppressed(storage: Storage) -> Suppression | None:
    """The list of a workspace; None where nobody was ever erased."""
    if not storage.exists(PATH):
        return None
    found = read_facts(storage, PATH, _Listed, CURE)
    return Suppression(found.salt, frozenset(found.hashes))


def suppress(storage: Storage, member_id: int | str) -> str:
    """Put a member on the list of a workspace; the hash that names the member there."""
    before = suppressed(storage) or Suppression(secrets.token_hex(16), frozenset())
    name = before.name(member_id)
    body = {"salt": before.salt, "hashes": sorted({*before.hashes, name})}
    storage.write(PATH, checked(body))
    return name
