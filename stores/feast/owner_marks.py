"""Owner marks inside an online store: small named texts that a store keeps beside its rows.

A mark's name is that of a Feast view, or `@` and a workspace's id. SQLite and Redis set marks atomically. Any other
store is asked through Feast's own interface, which has no compare-and-set: there a claim waits and reads again, so that
of two that write at the same moment the last one wins and the other sees it (Fischer's algorithm).
"""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

OWNERS_TABLE = "samespace_owners"
SETTLE_S = 1.0
"""Between writing a mark and reading it again; longer than any store takes from one to the other."""
WAIT_S = 60.0

Marks = dict[str, str]


class MarkStore(Protocol):
    """The marks of one Feast project in an online store."""

    def read(self, names: list[str]) -> Marks:
        """Return those of the named marks that there are."""

    def claim(self, names: list[str], owner: str) -> Marks:
        """Set the marks that nobody has, all of them or none; return whose each of them is now."""

    def put(self, marks: Marks) -> None:
        """Set marks, also those of others."""

    def close(self) -> None:
        """Close the connection."""


def mark_store(store: Any, config: Any) -> MarkStore:
    """Return the marks of an online store (`feast.OnlineStore`) under its `feast.RepoConfig`."""
    kind = type(store).__name__
    if kind == "SqliteOnlineStore":
        return SqliteMarks(Path(store._get_db_path(config)), config.project)
    if kind == "RedisOnlineStore":
        return RedisMarks(store._get_client(config.online_store), config.project)
    return FeastMarks(store, config)


class SqliteMarks:
    """A table of its own in the database file; a claim is one transaction that locks the file."""

    def __init__(self, path: Path, project: str) -> None:
        self.path, self.project = path, project

    def read(self, names: list[str]) -> Marks:
        """Return the marks; none where there is no file or no table, and neither is made."""
        if not self.path.exists():
            return {}
        with closing(self._connect()) as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (OWNERS_TABLE,)).fetchone()
            return self._read(connection, names) if there else {}

    def claim(self, names: list[str], owner: str) -> Marks:
        """Set the marks that nobody has in one transaction, which is given up if one of them is another's."""
        with closing(self._open()) as connection:
            self._insert(connection, "OR IGNORE", dict.fromkeys(names, owner))
            found = self._read(connection, names)
            connection.execute("COMMIT" if set(found.values()) == {owner} else "ROLLBACK")
        return found

    def put(self, marks: Marks) -> None:
        """Set marks in one transaction."""
        with closing(self._open()) as connection:
            self._insert(connection, "OR REPLACE", marks)
            connection.execute("COMMIT")

    def close(self) -> None:
        """Nothing is held open."""

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)

    def _open(self) -> sqlite3.Connection:
        """A connection that has begun a writing transaction on a file with the table."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect()
        columns = "project TEXT, name TEXT, value TEXT, PRIMARY KEY(project, name)"
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {OWNERS_TABLE} ({columns}) WITHOUT ROWID")
        return connection

    def _insert(self, connection: sqlite3.Connection, how: str, marks: Marks) -> None:
        rows = [(self.project, name, value) for name, value in marks.items()]
        connection.executemany(f"INSERT {how} INTO {OWNERS_TABLE} VALUES (?, ?, ?)", rows)

    def _read(self, connection: sqlite3.Connection, names: list[str]) -> Marks:
        rows = connection.execute(f"SELECT name, value FROM {OWNERS_TABLE} WHERE project = ?", (self.project,))
        return {name: value for name, value in rows if name in names}


class RedisMarks:
    """One hash for each project, beside the rows; its commands run as one transaction on one key, also in a cluster."""

    def __init__(self, client: Any, project: str) -> None:
        self.client, self.key = client, f"{OWNERS_TABLE}:{{{project}}}"

    def read(self, names: list[str]) -> Marks:
        """Return the marks, in one round trip."""
        return self._named(names, self.client.hmget(self.key, names))

    def claim(self, names: list[str], owner: str) -> Marks:
        """Set the marks that nobody has in one transaction; where one is another's, those just set are removed."""
        with self.client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.hsetnx(self.key, name, owner)
            pipe.hmget(self.key, names)
            *new, values = pipe.execute()
        found = self._named(names, values)
        won = [name for name, was_new in zip(names, new, strict=True) if was_new]
        if won and set(found.values()) != {owner}:
            self.client.hdel(self.key, *won)
        return found

    def put(self, marks: Marks) -> None:
        """Set marks with one command."""
        self.client.hset(self.key, mapping=marks)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def _named(self, names: list[str], values: list[bytes | None]) -> Marks:
        return {name: value.decode() for name, value in zip(names, values, strict=True) if value is not None}


class FeastMarks:
    """Rows of a view of its own, which no registry lists, through Feast's `online_read` and `online_write_batch`."""

    def __init__(self, store: Any, config: Any) -> None:
        from feast import Entity, FeatureView, Field, FileSource, ValueType
        from feast.types import String

        self.store, self.config = store, config
        entity = Entity(name=OWNERS_TABLE, join_keys=["name"], value_type=ValueType.STRING)
        source = FileSource(name=OWNERS_TABLE, path="unused.parquet", timestamp_field="event_timestamp")
        fields = [Field(name="value", dtype=String)]
        self.view = FeatureView(name=OWNERS_TABLE, entities=[entity], schema=fields, source=source, ttl=timedelta(0))
        store.update(config, [], [self.view], [], [entity], partial=True)  # makes the table if there is none

    def read(self, names: list[str]) -> Marks:
        """Return the marks."""
        rows = self.store.online_read(self.config, self.view, [_key(name) for name in names], ["value"])
        found = {name: values["value"].string_val for name, (_, values) in zip(names, rows, strict=True) if values}
        return {name: value for name, value in found.items() if value}

    def claim(self, names: list[str], owner: str) -> Marks:
        """Set the marks that nobody has, wait, and look whose they are; those won are removed if one is another's."""
        before = self.read(names)
        free = [name for name in names if name not in before]
        if not free or set(before.values()) - {owner}:
            return before
        self.put(dict.fromkeys(free, owner))
        time.sleep(SETTLE_S)
        found = self.read(names)
        if set(found.values()) != {owner}:
            self.put({name: "" for name in free if found.get(name) == owner})
        return found

    def put(self, marks: Marks) -> None:
        """Write marks; an empty one counts as none."""
        from feast.protos.feast.types.Value_pb2 import Value

        now = datetime.now(UTC)
        rows = [(_key(name), {"value": Value(string_val=value)}, now, now) for name, value in marks.items()]
        self.store.online_write_batch(self.config, self.view, rows, None)

    def close(self) -> None:
        """Nothing is held open here."""


def _key(name: str) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=["name"], entity_values=[Value(string_val=name)])
