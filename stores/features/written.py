"""What samespace wrote into the Feast repository, by SHA-256: Feast's own readers would not notice a flipped bit."""

from typing import Any

from stores.checked_json import checked, read_checked
from stores.errors import CorruptError
from stores.features.views import FOLDER
from stores.storage import Storage, sha256

WRITTEN = f"{FOLDER}/written.json"
REGISTRY = f"{FOLDER}/registry.db"
FACTS = f"{REGISTRY}#"
"""Beside the hash of the registry's file: what it means, because Feast's users write it too."""


def note_written(storage: Storage, hashes: dict[str, Any]) -> None:
    """Remember the hashes of files, by path from the workspace's root, and FACTS, beside those that are known."""
    storage.write(WRITTEN, checked(_known(storage) | hashes))


def forget_written(storage: Storage, path: str) -> None:
    """Know nothing of a file any more; to be called before the file is removed."""
    storage.write(WRITTEN, checked({name: sha for name, sha in _known(storage).items() if name != path}))


def damaged(storage: Storage) -> list[str]:
    """One line for each file that is missing or is not what was written."""
    written = _written(storage)
    facts = written.pop(FACTS, None)
    return [line for path, wanted in sorted(written.items()) if (line := _fault(storage, path, wanted, facts))]


def _fault(storage: Storage, path: str, wanted: str, facts: dict[str, Any] | None) -> str:
    if not storage.exists(path):
        return f"{path} is missing"
    data = storage.read(path)
    found = sha256(data)
    if found == wanted:
        return ""
    if path == REGISTRY and facts:
        from stores.features.registry_specs import registry_fault

        fault = registry_fault(data, facts)
        return f"{path} {fault}" if fault else ""
    return f"{path} has hash {found}, written was {wanted}"


def _known(storage: Storage) -> dict[str, Any]:
    try:
        return _written(storage)
    except CorruptError:
        return {}  # whoever publishes is not held up by what only the doctor reads, who names it until then


def _written(storage: Storage) -> dict[str, Any]:
    return read_checked(storage, WRITTEN) if storage.exists(WRITTEN) else {}
