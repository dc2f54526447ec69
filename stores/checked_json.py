"""Small JSON files that notice damage: one of their facts is the SHA-256 of all others.

Other people's readers see one more key. Files from before there was one are taken as they are.
"""

import json
from typing import Any

from stores.errors import CorruptError
from stores.storage import Storage, sha256

DIGEST = "digest"


def checked(facts: dict[str, Any]) -> bytes:
    """The file that says these facts."""
    return json.dumps(facts | {DIGEST: _digest(facts)}, indent=1, sort_keys=True).encode()


def read_checked(storage: Storage, path: str) -> dict[str, Any]:
    """What a file says, without its digest. Raises CorruptError, which names the file, where a bit of it flipped."""
    data = storage.read(path)
    try:
        facts = dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{path} cannot be read: {error}", where=storage.uri, fix="restore the file") from error
    # the name of the digest may be what was damaged
    named = next((name for name in facts if facts[name] == _digest(_without(facts, name))), None)
    if named != DIGEST and (named or DIGEST in facts):
        raise CorruptError(f"{path} is not what was written", where=storage.uri, fix="restore the file")
    return _without(facts, DIGEST)


def _digest(facts: dict[str, Any]) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode())


def _without(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != name}
