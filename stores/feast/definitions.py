"""Entities, views and services of this Feast repository, made from `views.json` beside this file.

samespace copies this file into every repository, so that plain `feast apply` there registers the same
objects; it needs Feast and nothing else.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # has no type stubs
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.types import Array, Float32, Int32, Int64, String, UnixTimestamp

VALUE_TYPES = {"int64": ValueType.INT64, "string": ValueType.STRING}
FEATURE_TYPES: dict[str, Any] = {
    "string": String,
    "int64": Int64,
    "timestamp": UnixTimestamp,
    "list<float>": Array(Float32),
    "list<string>": Array(String),
    "list<int32>": Array(Int32),
    "list<int64>": Array(Int64),
}


def build(repository: Path, described: dict[str, Any]) -> list[Any]:
    """All Feast objects of a repository folder, as `views.json` describes them."""
    entities = {
        name: Entity(name=name, join_keys=[one["join_key"]], value_type=VALUE_TYPES[one["id"]])
        for name, one in described["entities"].items()
    }
    views = {name: _view(repository, name, entities, described) for name in described["views"]}
    services = [
        FeatureService(name=name, features=[views[view] for view in one["views"]], tags=one["tags"])
        for name, one in described["services"].items()
    ]
    return [*entities.values(), *views.values(), *services]


def _view(repository: Path, name: str, entities: dict[str, Entity], described: dict[str, Any]) -> FeatureView:
    """A view without expiry: a row is valid until the next row of its entity replaces it."""
    view = described["views"][name]
    kinds = {feature: view["features"][feature] for feature in view.get("order", view["features"])}
    source = FileSource(
        name=f"{name}_history",
        path=_history(repository, view["history"], described),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        s3_endpoint_override=_endpoint() if described.get("root") else None,
    )
    return FeatureView(
        name=name,
        entities=[entities[view["entity"]]],
        ttl=timedelta(0),
        schema=[Field(name=feature, dtype=FEATURE_TYPES[kind]) for feature, kind in kinds.items()],
        source=source,
        online=True,
    )


def _history(repository: Path, folder: str, described: dict[str, Any]) -> str:
    """The view's files. Feast 0.67's DuckDB store resolves a relative path in the process's folder, not in this one.

    Hence an absolute path there, which `feast apply` here, or any writing command of samespace, renews after a move.
    """
    path = f"history/{folder}/*.parquet"
    if root := described.get("root"):
        return f"{root}/{path}"
    return str(repository.resolve() / path) if described["offline_store"] == "duckdb" else path


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def forget_other_folders(repository: Path) -> None:
    """Take tables of other files out of this folder's registry: `feast apply` in a copy would drop the original's."""
    registry_file, settings = repository / "registry.db", repository / "feature_store.yaml"
    block = yaml.safe_load(os.path.expandvars(settings.read_text()))["online_store"]
    if not registry_file.exists() or block.get("type") != "sqlite":
        return
    own = str(repository / block.get("path", "data/online.db"))
    registry = Registry.FromString(registry_file.read_bytes())
    kept = [one for one in registry.infra.infra_objects if one.sqlite_table.path == own]
    if len(kept) < len(registry.infra.infra_objects):
        registry.infra.ClearField("infra_objects")
        registry.infra.infra_objects.extend(kept)
        following = registry_file.with_name(".registry.db-following")
        following.write_bytes(registry.SerializeToString())
        following.replace(registry_file)


HERE = Path(__file__).parent
if (HERE / "views.json").exists():
    forget_other_folders(HERE)
    made = build(HERE, json.loads((HERE / "views.json").read_text()))
    globals().update({f"{type(one).__name__.lower()}_{one.name}": one for one in made})
