"""The Feast repository of a workspace: a folder that any Feast user can open."""

import hashlib
import json
import os
import re
import socket
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml  # type: ignore[import-untyped]  # has no type stubs
from pydantic import ValidationError

from stores import schema
from stores.errors import ConfigError, CorruptError, MismatchError
from stores.feast.checksums import FACTS, record_checksums, registry_facts
from stores.feast.config import PublishConfig
from stores.feast.feature_views import (
    BLUE_SLOT,
    FOLDER,
    GREEN_SLOT,
    PROJECT,
    VERSION_COLUMNS,
    FeatureViewSpec,
    served_type,
    services,
)
from stores.feast.redis_writer import check_redis_address, with_deadlines
from stores.feast.serialization import feature_kind
from stores.files.checksummed_json import dump_checksummed, read_checksummed
from stores.files.filesystem import Storage, sha256, temporary_folder
from stores.files.object_store import is_outage, outage

__all__ = ["REGISTRY", "FeatureRepository", "PublishConfig"]


def import_feast() -> Any:
    """The module `feast`.

    Its modules set warning filters for the whole process when they are imported, which would make a
    night print the deprecation warnings of every other library; the filters are put back.
    """
    with warnings.catch_warnings():
        import feast
    return feast


Described = dict[str, Any]
ORIGIN_TYPES = {schema.RELEASE_ID: "string", schema.SPACE_ID: "string", schema.ENCODED_AT: "timestamp"}


def with_views(described: Described, found: dict[FeatureViewSpec, pa.Schema], space_id: str, slots: int) -> Described:
    """The description with the views of a space, one of each for every slot; `found` has their stored columns."""
    for view, stored in found.items():
        kind = _id_kind(stored.field(view.join_key).type)
        described["entities"][view.entity] = {"join_key": view.join_key, "id": kind}
        features = {name: feature_kind(served_type(stored.field(name).type)) for name in view.columns}
        for slot in (BLUE_SLOT, GREEN_SLOT)[:slots]:
            described["views"][view.view(space_id, slot)] = {
                "entity": view.entity,
                "history": view.view(space_id, BLUE_SLOT),
                "features": features | {name: ORIGIN_TYPES[name] for name in VERSION_COLUMNS},
                "order": list(view.features),  # JSON sorts the keys of `features`
            }
    return described


def with_services(
    described: Described, views: list[FeatureViewSpec], space_id: str, slot: str, tags: dict[str, str]
) -> Described:
    """The description with the services of a space moved to a slot; `tags` are Feast's, on each of them."""
    for name, members in services(space_id, views, slot).items():
        described["services"][name] = {"views": members, "slot": slot, "tags": tags}
    return described


def embedding_service(described: Described, space_id: str) -> dict[str, Any] | None:
    """The service of the embeddings of a space: its `slot` and `tags`; None where there is none yet."""
    found = described["services"].get(f"embeddings_v{space_id}")
    return None if found is None else {"slot": BLUE_SLOT, **found}


def _id_kind(kind: pa.DataType) -> str:
    if pa.types.is_int64(kind):
        return "int64"
    if pa.types.is_string(kind):
        return "string"
    raise MismatchError(f"ids are {kind}", expected="int64 or string")


REGISTRY = "registry.db"
VIEWS = "views.json"
GENERATED = ("feature_store.yaml", "definitions.py", VIEWS)
VIEWS_CURE = f"delete {FOLDER}/{VIEWS}, then samespace promote current: it registers every view again"
SQLITE_PATH = "data/online.db"
"""Where Feast puts a SQLite store whose settings name no path."""
FORMAT = 2


class FeatureRepository:
    """The repository below a workspace's root, and its folder on local disk."""

    def __init__(self, storage: Storage, config: PublishConfig) -> None:
        self.root, self.storage, self.config = storage, storage.subfolder(FOLDER), config
        self.path = self.storage.local() if storage.is_local else _folder(storage.uri, config)

    def update(self, amend: Callable[[Described], Described]) -> None:
        """Register what `amend` makes of the description, in one write of the registry.

        Raises MismatchError where the repository has another kind of id, ConfigError where Feast refuses the
        stores' configuration.
        """
        before = self.described()
        after = amend(json.loads(json.dumps(before)))
        for name, entity in after["entities"].items():
            if before["entities"].get(name, entity) != entity:
                raise MismatchError(
                    f"{name} ids are {entity['id']}, the Feast repository has {before['entities'][name]['id']}",
                    where=str(self.path),
                    fix="use a new workspace for other ids",
                )
        self._register({**after, **self._places()})

    @property
    def online_name(self) -> str:
        """A hash that names the online store, so that a change of store is noticed."""
        block: list[Any] = [self.config.online_store]
        if not self.storage.is_local and self.config.online_store.get("type") == "sqlite":
            block += [socket.gethostname(), str(self.path)]  # a file of this machine, though the workspace is not
        return sha256(json.dumps(block[0] if len(block) == 1 else block, sort_keys=True).encode())[:16]

    @property
    def has_own_store(self) -> bool:
        """Whether the online store is a file inside the repository: no other workspace writes it, it moves along."""
        block = self.config.online_store
        place = os.path.expandvars(str(block.get("path", "")))
        return block.get("type", "sqlite") == "sqlite" and not Path(place).is_absolute()

    def relocate(self) -> bool:
        """Register the history's place again if the workspace was moved; says whether that was needed."""
        described = self.described()
        if not described["views"] or not self._moved():
            return False
        self._register({**described, **self._places()})
        return True

    def open(self) -> Any:
        """The repository as plain Feast opens it: a `feast.FeatureStore`."""
        self._mirror()
        try:
            store = import_feast().FeatureStore(repo_path=str(self.path))
        except Exception as error:
            if is_outage(error):  # the registry of a workspace on an object store
                raise outage(self.storage.uri, REGISTRY, error) from error
            raise
        _bound(store.config)
        return store

    def store_config(self) -> Any:
        """The stores' configuration as Feast reads it: a `feast.RepoConfig`, before anything is written too.

        Raises ConfigError where Feast refuses it.
        """
        with temporary_folder() as place:
            settings = place / "feature_store.yaml"
            settings.write_bytes(self._settings_file())
            config = self._read(settings)
        _bound(config)
        return config

    def described(self) -> Described:
        """What `views.json` says."""
        empty: Described = {"format": FORMAT, "entities": {}, "views": {}, "services": {}}
        found = read_checksummed(self.storage, VIEWS, VIEWS_CURE) if self.storage.exists(VIEWS) else empty
        if not all(
            isinstance(found.get(name), dict) for name in ("entities", "views" if "format" in found else "spaces")
        ):
            raise CorruptError(f"{VIEWS} lacks entities or views", where=self.storage.uri, fix=VIEWS_CURE)
        return found if "format" in found else _of_first_format(found)

    def changed_at(self) -> datetime:
        """When the registry was last written."""
        found: datetime = self.storage.fs.get_file_info(REGISTRY).mtime
        return found

    @property
    def offline_kind(self) -> str:
        """Feast's name of the kind of offline store."""
        return str(self._offline_store().get("type", "dask"))

    def _places(self) -> Described:
        root = {} if self.storage.is_local else {"root": self.storage.uri}
        return {"offline_store": self.offline_kind, **root}

    def _offline_store(self) -> dict[str, Any]:
        return self.config.offline_store or {"type": "duckdb" if self.storage.is_local else "dask"}

    def _moved(self) -> bool:
        if not self.storage.exists(REGISTRY):
            return True
        if not self.storage.is_local:
            return f"{self.storage.uri}/history/".encode() not in self.storage.read(REGISTRY)
        registry = self.storage.read(REGISTRY)
        duckdb = self.described().get("offline_store") == "duckdb"
        places = [f"{self.path.resolve()}/history/"] if duckdb else []
        if self.has_own_store:  # Feast notes where the tables of SQLite lie
            online = os.path.expandvars(str(self.config.online_store.get("path", SQLITE_PATH)))
            places.append(str(self.path.resolve() / online))
        return any(place.encode() not in registry for place in places)

    def _register(self, described: Described) -> None:
        """`views.json` is written last: what it says is registered."""
        wanted = {
            "feature_store.yaml": self._settings_file(),
            "definitions.py": Path(__file__).with_name("definitions.py").read_bytes(),
            VIEWS: dump_checksummed(described),
        }
        if all(self._bytes(name) == data for name, data in wanted.items()) and not self._moved():
            self._mirror()
            return
        for name in ("feature_store.yaml", "definitions.py"):
            self._write(name, wanted[name])
        self._mirror()
        self._apply(described)
        self._write(VIEWS, wanted[VIEWS])
        self._mirror()

    def _mirror(self) -> None:
        """The generated files on local disk as they are on the object store."""
        if self.storage.is_local:
            return
        here = Storage(str(self.path))
        for name in GENERATED:
            if (data := self._bytes(name)) is not None and not (here.exists(name) and here.read(name) == data):
                here.write(name, data)

    def _bytes(self, name: str) -> bytes | None:
        return self.storage.read(name) if self.storage.exists(name) else None

    def _settings_file(self) -> bytes:
        return bytes(yaml.safe_dump(self._settings(), sort_keys=False).encode())

    def _read(self, settings: Path) -> Any:
        import_feast()
        from feast.repo_config import load_repo_config

        try:
            config = load_repo_config(self.path, settings)
            _ = config.online_store, config.offline_store  # Feast parses them when they are first asked for
        except Exception as error:
            raise ConfigError(
                f"Feast refuses [publish] online_store or offline_store: {_reason(error)}", where=str(self.path)
            ) from None  # the trace of Feast's error shows the values that it refused
        return config

    def _settings(self) -> dict[str, Any]:
        place = REGISTRY if self.storage.is_local else f"{self.storage.uri}/{REGISTRY}"
        return {
            "project": PROJECT,
            "provider": "local",
            "registry": {
                "registry_type": "file",
                "path": place,
                "cache_ttl_seconds": self.config.registry_ttl_s,
                # A file's "sync" looks at the file in the middle of a request: Feast then takes the features of the
                # service's new slot and the views of the old one, which the caller holds, and knows neither.
                "cache_mode": "thread",
            },
            "online_store": self.config.online_store,
            "offline_store": self._offline_store(),
            "entity_key_serialization_version": 3,
        }

    def _apply(self, described: Described) -> None:
        """What `feast apply` does, with the registry written beside the live one and put in its place at once."""
        feast = import_feast()
        from stores.feast.definitions import build

        config = self._read(self.path / "feature_store.yaml")
        config.repo_path = self.path.resolve()  # as `feast apply` in that folder sees it
        with temporary_folder() as place:
            following = place / REGISTRY
            if (data := self._bytes(REGISTRY)) is not None:
                following.write_bytes(data)
            config.registry.path = str(following)
            store = feast.FeatureStore(config=config)
            store.apply(build(self.path, described))
            if store._should_use_plan():  # what `feast apply` would note beside it, and otherwise print as a change
                infra = store.provider.plan_infra(config, store.registry.proto())
                store.registry.update_infra(infra, PROJECT, commit=True)
            data = following.read_bytes()
            self._write(REGISTRY, data, {FACTS: registry_facts(data, described)})

    def _write(self, name: str, data: bytes, facts: dict[str, Any] | None = None) -> None:
        """Note its hash, then write: after a kill in between the doctor names the file until it is written again."""
        record_checksums(self.root, {f"{FOLDER}/{name}": sha256(data), **(facts or {})})
        self.storage.write(name, data)


def online_store_of(config: Any) -> Any:
    """Feast's online store of a `feast.RepoConfig`, with a client of its own."""
    import_feast()
    from feast.infra.online_stores.helpers import get_online_store_from_config

    return get_online_store_from_config(config.online_store)


def _bound(config: Any) -> None:
    """Check the address of a Redis and give every wait for it a deadline, in this process alone."""
    block = config.online_store
    unset = sorted(set(re.findall(r"\$\{(\w+)\}", repr(block))))
    if unset:
        raise ConfigError(
            f"the environment variable {', '.join(unset)} is not set",
            where="[publish] online_store",
            fix="set it where the command runs; Feast fills it in when it reads feature_store.yaml",
        )
    if getattr(block, "type", "") == "redis":
        check_redis_address(block)
        block.connection_string = with_deadlines(block.connection_string)


def _reason(error: BaseException) -> str:
    """Why Feast refused a block: pydantic's reasons by key, without the values, parts of which its own text shows."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ValidationError):
            faults = inner.errors(include_url=False, include_input=False, include_context=False)
            return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        inner = inner.__cause__ or inner.__context__
    return f"{type(error).__name__}: {error}"


def _folder(uri: str, config: PublishConfig) -> Path:
    """Where the generated repository of a workspace on an object store is."""
    if config.repository:
        return Path(config.repository).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = uri.partition("://")[2].strip("/").replace("/", "-")
    return cache / "samespace" / f"{name}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def _of_first_format(found: Described) -> Described:
    """The description of a repository from before there were optional views."""
    kinds = {"embedding": "list<float>", "release_id": "string", "space_id": "string", "encoded_at": "timestamp"}
    entities = {name: {"join_key": f"{name}_id", "id": kind} for name, kind in found["entities"].items()}
    views: Described = {}
    services: Described = {}
    for space_id, named in found["spaces"].items():
        views |= {n: {"entity": entity, "history": n, "features": kinds} for entity, n in named.items()}
        services[f"embeddings_v{space_id}"] = {"views": list(named.values()), "tags": {}}
    rest = {key: found[key] for key in ("offline_store",) if key in found}
    return {"format": FORMAT, "entities": entities, "views": views, "services": services, **rest}
