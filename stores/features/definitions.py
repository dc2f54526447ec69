"""Entities, views and services of this Feast repository, made from `views.json` beside this file.

samespace copies this file into every repository, so that plain `feast apply` there registers the same
objects; it needs Feast and nothing else.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Float32, String, UnixTimestamp

VALUE_TYPES = {"int64": ValueType.INT64, "string": ValueType.STRING}


def build(repository: Path, described: dict[str, Any]) -> list[Any]:
    """All Feast objects of a repository folder, as `views.json` describes them."""
    entities = {name: _entity(name, kind) for name, kind in described["entities"].items()}
    objects = list(entities.values())
    for space_id, views in described["spaces"].items():
        made = [_view(repository, name, entities[entity], described) for entity, name in views.items()]
        objects += [*made, FeatureService(name=f"embeddings_v{space_id}", features=made)]
    return objects


def _entity(name: str, kind: str) -> Entity:
    return Entity(name=name, join_keys=[f"{name}_id"], value_type=VALUE_TYPES[kind])


def _view(repository: Path, name: str, entity: Entity, described: dict[str, Any]) -> FeatureView:
    """A view without expiry: a vector is valid until the next row of its entity replaces it."""
    source = FileSource(
        name=f"{name}_history",
        path=_history(repository, name, described["offline_store"]),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    schema = [
        Field(name="embedding", dtype=Array(Float32)),
        Field(name="release_id", dtype=String),
        Field(name="space_id", dtype=String),
        Field(name="encoded_at", dtype=UnixTimestamp),
    ]
    return FeatureView(name=name, entities=[entity], ttl=timedelta(0), schema=schema, source=source, online=True)


def _history(repository: Path, name: str, offline_store: str) -> str:
    """The view's files. Feast 0.67's DuckDB store resolves a relative path in the process's folder, not in this one.

    Hence an absolute path there, which `feast apply` here, or any writing command of samespace, renews after a move.
    """
    path = f"history/{name}/*.parquet"
    return str(repository.resolve() / path) if offline_store == "duckdb" else path


HERE = Path(__file__).parent
if (HERE / "views.json").exists():
    made = build(HERE, json.loads((HERE / "views.json").read_text()))
    globals().update({f"{type(one).__name__.lower()}_{one.name}": one for one in made})
