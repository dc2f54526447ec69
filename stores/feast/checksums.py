"""Checksums of what was written into the Feast repository, and the meaning of its registry.

`feast apply` by a user rewrites `registry.db`: a new version id, new times, the user's own objects beside ours. That is
no damage as long as our objects say what was registered; a changed bit in a file that no one applied is.
"""

import hashlib
from typing import Any

from stores.errors import CorruptError
from stores.feast.feature_views import FOLDER, PROJECT
from stores.files.checksummed_json import dump_checksummed, read_checksummed
from stores.files.filesystem import Storage, sha256

Facts = dict[str, Any]
KINDS = ("entities", "feature_views", "feature_services")


def registry_facts(data: bytes, described: dict[str, Any]) -> Facts:
    """Return what to remember of a registry file: the stamp of its writing, and a hash of each of our objects."""
    registry = _parsed(data)
    return {"stamp": _stamp(registry), "objects": _objects(registry, _names(described))}


def registry_fault(data: bytes, facts: Facts) -> str:
    """Return what is wrong with a registry file whose bytes are not those that were written; "" where Feast wrote it.

    Every writing of Feast's renews both parts of the stamp, which a flipped bit cannot.
    """
    try:
        registry = _parsed(data)
    except Exception as error:  # protobuf's DecodeError, and whatever Feast raises for it
        return f"cannot be read: {error}"
    if any(now == before for now, before in zip(_stamp(registry), facts["stamp"], strict=True)):
        return "is not what was written, nor what feast apply writes"
    found = _objects(registry, {name.partition(":")[2] for name in facts["objects"]})
    wrong = sorted(name for name, spec in facts["objects"].items() if found.get(name) != spec)
    return f"does not say what was registered: {', '.join(wrong)}" if wrong else ""


def _parsed(data: bytes) -> Any:
    from stores.feast.repository import import_feast

    import_feast()
    from feast.protos.feast.core.Registry_pb2 import Registry

    return Registry.FromString(data)


def _stamp(registry: Any) -> list[str]:
    return [registry.version_id, registry.last_updated.ToJsonString()]


def _names(described: dict[str, Any]) -> set[str]:
    return {name for kind in ("entities", "views", "services") for name in described[kind]}


def _objects(registry: Any, names: set[str]) -> dict[str, str]:
    """A hash of the spec of each named object of our project, by kind and name."""
    return {
        f"{kind}:{one.spec.name}": _spec_hash(one.spec)
        for kind in KINDS
        for one in getattr(registry, kind)
        if one.spec.project == PROJECT and one.spec.name in names
    }


def _spec_hash(spec: Any) -> str:
    """Equal for two specs that mean the same: times of a source and the order of features aside."""
    plain = type(spec)()
    plain.CopyFrom(spec)
    for part in [*getattr(plain, "features", []), plain]:
        if hasattr(part, "batch_source"):
            part.batch_source.ClearField("meta")
        for name in ("features", "feature_columns", "entity_columns"):
            if columns := getattr(part, name, None):
                ordered = sorted(columns, key=lambda one: getattr(one, "name", "") or one.feature_view_name)
                part.ClearField(name)
                getattr(part, name).extend(ordered)
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()


CHECKSUMS_FILE = f"{FOLDER}/written.json"
REGISTRY = f"{FOLDER}/registry.db"
FACTS = f"{REGISTRY}#"
"""Beside the hash of the registry's file: what it means, because Feast's users write it too."""


def record_checksums(storage: Storage, hashes: dict[str, Any]) -> None:
    """Remember the hashes of files, by path from the workspace's root, and FACTS, beside those that are known."""
    storage.write(CHECKSUMS_FILE, dump_checksummed(_known(storage) | hashes))


def forget_checksum(storage: Storage, path: str) -> None:
    """Know nothing of a file any more; to be called before the file is removed."""
    storage.write(
        CHECKSUMS_FILE, dump_checksummed({name: sha for name, sha in _known(storage).items() if name != path})
    )


def find_damaged(storage: Storage) -> list[str]:
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
        fault = registry_fault(data, facts)
        return f"{path} {fault}" if fault else ""
    return f"{path} has hash {found}, written was {wanted}"


def _known(storage: Storage) -> dict[str, Any]:
    try:
        return _written(storage)
    except CorruptError:
        return {}  # whoever publishes is not held up by what only the doctor reads, who names it until then


def _written(storage: Storage) -> dict[str, Any]:
    return read_checksummed(storage, CHECKSUMS_FILE) if storage.exists(CHECKSUMS_FILE) else {}
