"""The Feast repository of a workspace: a folder that any Feast user can open.

`views.json` says which spaces there are; `definitions.py` makes Feast's objects from it. The registry
is replaced by one rename, and only when something in it changed, so that a reader never meets half a file.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # has no type stubs
from pydantic import Field

from stores.errors import ConfigError, MismatchError
from stores.features.library import load_feast
from stores.features.views import FOLDER, KINDS, PROJECT
from stores.settings import Settings
from stores.storage import Storage, sha256

REGISTRY = "registry.db"


class PublishConfig(Settings):
    """Where features are published.

    `online_store` and `offline_store` are Feast's own blocks and go into `feature_store.yaml` as they
    are; Feast puts environment variables in place of `${NAME}`, which is where passwords belong.
    `batch_rows` is the number of rows in one write to the online store.
    """

    online_store: dict[str, Any] = Field(default_factory=lambda: {"type": "sqlite", "path": "online.db"})
    offline_store: dict[str, Any] = Field(default_factory=lambda: {"type": "duckdb"})
    batch_rows: int = 20_000


class FeatureRepository:
    """The repository below a workspace's root. Raises UsageError for a workspace that is not on local disk."""

    def __init__(self, storage: Storage, config: PublishConfig) -> None:
        self.storage, self.config = storage.below(FOLDER), config
        self.path: Path = self.storage.local()

    def prepare(self, space_id: str, id_types: dict[str, str]) -> None:
        """Make the views of a space exist; `id_types` is "int64" or "string" by entity.

        Raises MismatchError where the repository has another kind of id, ConfigError where Feast
        refuses the stores' configuration.
        """
        described = self._described()
        if described["entities"] not in ({}, id_types):
            raise MismatchError(
                f"ids are {id_types}, the Feast repository has {described['entities']}",
                where=str(self.path),
                fix="use a new workspace for other ids",
            )
        views = {kind.entity: kind.view(space_id) for kind in KINDS}
        described = {
            "offline_store": self.config.offline_store.get("type", "dask"),
            "entities": id_types,
            "spaces": {**described["spaces"], space_id: views},
        }
        self._register(described)

    @property
    def online_name(self) -> str:
        """A hash that names the online store, so that a change of store is noticed."""
        return sha256(json.dumps(self.config.online_store, sort_keys=True).encode())[:16]

    def follow(self) -> bool:
        """Register the history's place again if the workspace was moved; says whether that was needed."""
        described = self._described()
        if not described["spaces"] or not self._moved():
            return False
        self._register(described)
        return True

    def open(self) -> Any:
        """The repository as plain Feast opens it: a `feast.FeatureStore`."""
        return load_feast().FeatureStore(repo_path=str(self.path))

    def _described(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"entities": {}, "spaces": {}}
        return json.loads(self.storage.read("views.json")) if self.storage.exists("views.json") else empty

    def _moved(self) -> bool:
        registry = self.path / REGISTRY
        if self._described().get("offline_store") != "duckdb" or not registry.exists():
            return not registry.exists()
        return f"{self.path.resolve()}/history/".encode() not in registry.read_bytes()

    def _register(self, described: dict[str, Any]) -> None:
        """`views.json` is written last: what it says is registered."""
        wanted = {
            "feature_store.yaml": yaml.safe_dump(self._settings(), sort_keys=False).encode(),
            "definitions.py": Path(__file__).with_name("definitions.py").read_bytes(),
            "views.json": json.dumps(described, indent=1, sort_keys=True).encode(),
        }
        stale = [name for name, data in wanted.items() if self._bytes(name) != data]
        if not stale and not self._moved():
            return
        for name in ("feature_store.yaml", "definitions.py"):
            self.storage.write(name, wanted[name])
        self._apply(described)
        self.storage.write("views.json", wanted["views.json"])

    def _bytes(self, name: str) -> bytes | None:
        return self.storage.read(name) if self.storage.exists(name) else None

    def _settings(self) -> dict[str, Any]:
        return {
            "project": PROJECT,
            "provider": "local",
            "registry": {"registry_type": "file", "path": REGISTRY, "cache_ttl_seconds": 60},
            "online_store": self.config.online_store,
            "offline_store": self.config.offline_store,
            "entity_key_serialization_version": 3,
        }

    def _apply(self, described: dict[str, Any]) -> None:
        """What `feast apply` does, with the registry written beside the live one and renamed."""
        feast = load_feast()
        from feast.repo_config import load_repo_config

        from stores.features.definitions import build

        try:
            config = load_repo_config(self.path, self.path / "feature_store.yaml")
        except Exception as error:
            raise ConfigError(
                f"Feast refuses [publish] online_store or offline_store: {error}", where=str(self.path)
            ) from error
        following = self.path / f"{REGISTRY}.next"
        if (self.path / REGISTRY).exists():
            shutil.copyfile(self.path / REGISTRY, following)
        config.registry.path = str(following)
        feast.FeatureStore(config=config).apply(build(self.path, described))
        following.replace(self.path / REGISTRY)
