"""Who was erased: salted hashes of member ids, so that tomorrow's lake does not bring anybody back.

The salt is made once per workspace and stays in it. A hash does not tell an id to a reader who has not got the
salt; one who has can only test an id that he already knows.
"""

import hashlib
import secrets
from dataclasses import dataclass

from stores.files.checksummed_json import dump_checksummed, read_facts
from stores.files.filesystem import Storage
from stores.settings import Settings

SUPPRESSION_FILE = "suppressed.json"
CURE = (
    f"restore {SUPPRESSION_FILE} from a copy; without it the next night brings the erased members back: "
    "erase each of them again"
)


class _Listed(Settings):
    """What the file says."""

    salt: str
    hashes: list[str]


@dataclass(frozen=True)
class SuppressionList:
    """A workspace's salt and the hashes of the members that were erased."""

    salt: str
    hashes: frozenset[str]

    def hash_id(self, member_id: int | str) -> str:
        """The salted SHA-256 of an id: of the salt followed by its text (whole numbers in decimal), in hex."""
        return hashlib.sha256(f"{self.salt}{member_id}".encode()).hexdigest()

    def contains(self, member_id: int | str) -> bool:
        """Whether a member was erased."""
        return self.hash_id(member_id) in self.hashes


def read_suppression_list(storage: Storage) -> SuppressionList | None:
    """The list of a workspace; None where nobody was ever erased."""
    if not storage.exists(SUPPRESSION_FILE):
        return None
    found = read_facts(storage, SUPPRESSION_FILE, _Listed, CURE)
    return SuppressionList(found.salt, frozenset(found.hashes))


def suppress(storage: Storage, member_id: int | str) -> str:
    """Put a member on the list of a workspace; the hash that names the member there."""
    before = read_suppression_list(storage) or SuppressionList(secrets.token_hex(16), frozenset())
    name = before.hash_id(member_id)
    body = {"salt": before.salt, "hashes": sorted({*before.hashes, name})}
    storage.write(SUPPRESSION_FILE, dump_checksummed(body))
    return name
