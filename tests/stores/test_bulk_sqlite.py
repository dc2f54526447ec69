"""The bulk writer leaves the table as Feast's own adapter would."""

import random
import sqlite3
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.Value_pb2 import FloatList, StringList, Value
from feast.types import String

from stores.feast.serialization import entity_keys
from stores.feast.sqlite_writer import SqliteWriter

TEXTS = ["", "a'b", 'q"q', "x\0y", "é/日本😀", "?1", "{table}", "'); DROP TABLE x;--", "\x12", "A" * 70_000, "12"]
VIEW = SimpleNamespace(name="view")
WHEN = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


def value(kind, chance):
    made = {
        "text": lambda: Value(string_val=chance.choice(TEXTS)),
        "null": Value,
        "floats": lambda: Value(float_list_val=FloatList(val=[-0.0, float("nan"), 1.5][: chance.randrange(4)] * 700)),
        "texts": lambda: Value(string_list_val=StringList(val=chance.sample(TEXTS, 3))),
        "time": lambda: Value(unix_timestamp_val=chance.randrange(3)),
        "either": lambda: chance.choice([Value(), Value(string_val=chance.choice(TEXTS))]),
    }
    return made[kind]()


def batch(chance):
    """Keys, and a list of values for each feature; some columns say the same of everybody."""
    ids = list(dict.fromkeys(chance.choice(TEXTS) + str(chance.randrange(3)) for _ in range(chance.choice([0, 1, 9]))))
    kinds = {name: chance.choice(["text", "null", "floats", "texts", "time", "either"]) for name in ("f", "o'k", '"é"')}
    shared = {name for name in kinds if chance.random() < 0.4}
    columns = {
        name: [value(kind, chance)] * len(ids) if name in shared else [value(kind, chance) for _ in ids]
        for name, kind in kinds.items()
    }
    return entity_keys(pa.array(ids, pa.string()), "m"), columns


@pytest.fixture
def made(tmp_path):
    """made(name): an empty table as Feast makes it: its configuration, view and store."""

    def make(name):
        config = RepoConfig(
            project="p", provider="local", registry=f"{tmp_path}/registry.db", entity_key_serialization_version=3,
            online_store={"type": "sqlite", "path": f"{tmp_path}/{name}.db"},
        )  # fmt: skip
        source = FileSource(path="x", timestamp_field="t")
        schema = [Field(name="m", dtype=String), Field(name="f", dtype=String)]
        view = FeatureView(
            name="view",
            entities=[Entity(name="m", join_keys=["m"], value_type=ValueType.STRING)],
            schema=schema,
            source=source,
        )
        store = SqliteOnlineStore()
        store.update(config, [], [view], [], [], partial=True)
        return config, view, store

    return make


def rows(path):
    columns = ("entity_key", "feature_name", "value", "value_text", "event_ts", "created_ts")
    kinds = ", ".join(f"typeof({name})" for name in columns)
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT {', '.join(columns)}, {kinds} FROM p_view ORDER BY 1, 2").fetchall()
    connection.close()
    return found


def test_any_batches_leave_the_table_as_feast_would(made, tmp_path):
    config, view, store = made("feast")
    made("ours")
    writer, chance = SqliteWriter(f"{tmp_path}/ours.db", "p"), random.Random(0)
    for second in range(40):
        keys, columns = batch(chance)
        at = WHEN + timedelta(seconds=second)
        told = [
            (deserialize_entity_key(key, 3), {name: cells[row] for name, cells in columns.items()}, at, at)
            for row, key in enumerate(keys)
        ]
        store.online_write_batch(config, view, told, None)
        writer.write(
            VIEW, keys, {name: [one.SerializeToString() for one in cells] for name, cells in columns.items()}, at
        )
    writer.close()
    assert len(rows(tmp_path / "ours.db")) > 60
    assert rows(tmp_path / "ours.db") == rows(tmp_path / "feast.db")
