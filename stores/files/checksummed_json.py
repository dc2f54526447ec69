"""Small JSON files that notice damage: one of their facts is the SHA-256 of all others.

Other people's readers see one more key. Files from before there was one are taken as they are. Whatever is wrong with
such a file (empty, no JSON, no object, a key that is missing or of another type, far too long, a folder in its place)
is a CorruptError that names the file and the cure of that file.
"""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stores.errors import CorruptError
from stores.files.filesystem import Storage, sha256

DIGEST = "digest"
RESTORE = "restore the file from a copy"
MAX_BYTES = 256 * 2**20
"""No file of this kind comes near this size (three million erased members); reading a larger one would only fail."""

Facts = TypeVar("Facts", bound=BaseModel)


def dump_checksummed(facts: dict[str, Any]) -> bytes:
    """The file that says these facts."""
    return json.dumps(facts | {DIGEST: _digest(facts)}, indent=1, sort_keys=True).encode()


def read_checksummed(storage: Storage, path: str, fix: str = RESTORE) -> dict[str, Any]:
    """The facts of a file, without its digest.

    Raises CorruptError, which names the file and says `fix`, where it is no JSON object or a bit of it flipped.
    """
    facts = object_of(storage.read(path, MAX_BYTES, fix), path, storage.uri, fix)
    # the name of the digest may be what was damaged
    named = next((name for name in facts if facts[name] == _digest(_without(facts, name))), None)
    if named != DIGEST and (named or DIGEST in facts):
        raise CorruptError(f"{path} is not what was written", where=storage.uri, fix=fix)
    return _without(facts, DIGEST)


def read_facts(storage: Storage, path: str, kind: type[Facts], fix: str = RESTORE) -> Facts:
    """The facts of a file as a model. Raises CorruptError as `read_checksummed`, and for keys missing or of other
    types.
    """
    return validated(read_checksummed(storage, path, fix), kind, path, storage.uri, fix)


def object_of(data: bytes, path: str, where: str, fix: str = RESTORE) -> dict[str, Any]:
    """The JSON object in some bytes. Raises CorruptError, which names the file, where they hold none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        told = str(error) if data else "the file is empty"
        raise CorruptError(f"{path} cannot be read: {told}", where=where, expected="JSON", fix=fix) from error
    if not isinstance(found, dict):
        raise CorruptError(
            f"{path} cannot be read: it holds a {type(found).__name__}", where=where, expected="a JSON object", fix=fix
        )
    return found


def validated(facts: dict[str, Any], kind: type[Facts], path: str, where: str, fix: str = RESTORE) -> Facts:
    """Facts as a model. Raises CorruptError, which names the file and each key that is wrong, but no value."""
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        raise CorruptError(f"{path} cannot be used: {reasons(error)}", where=where, fix=fix) from error


def reasons(error: ValidationError) -> str:
    """The keys that a validation refused and why, without the values, which may be secret or long."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in found]
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more


def _digest(facts: dict[str, Any]) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode())


def _without(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key != name}
