"""The bulk writer for Feast's SQLite online store.

Feast keeps one row per (entity key, feature) in the table `<project>_<view>`; times are whole seconds
as its own adapter makes them. Write-ahead logging lets readers go on while a night writes.
"""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

from stores import columns

UPSERT = (
    "INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, value_text = excluded.value_text, "
    "event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
WAIT_S = 60.0


class SqliteWriter:
    """Writes the tables of one database file; each batch is one transaction."""

    def __init__(self, path: str, project: str) -> None:
        self.project = project
        self.connection = sqlite3.connect(path, timeout=WAIT_S)
        self.connection.execute("PRAGMA journal_mode = WAL")

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys."""
        upsert, moment = UPSERT.format(table=self._table(view)), seconds(at)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        ordered = [keys[row] for row in order]
        with self.connection:
            for name, column in values.items():
                cells = [column[row] for row in order]
                texts = _texts(name, cells)
                rows = zip(ordered, repeat(name), cells, texts, repeat(moment), repeat(moment), strict=False)
                self.connection.executemany(upsert, rows)

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Delete the rows of entities."""
        with self.connection:
            delete = f"DELETE FROM {self._table(view)} WHERE entity_key = ?"
            self.connection.executemany(delete, ((key,) for key in keys))

    def close(self) -> None:
        """Fold the log into the database, so that the file alone can be copied."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()

    def _table(self, view: Any) -> str:
        return '"' + f"{self.project}_{view.name}".replace('"', '""') + '"'


def _texts(name: str, cells: list[bytes]) -> Iterable[str | None]:
    """Feast keeps strings in the clear as well, for its own text search."""
    if name not in (columns.RELEASE_ID, columns.SPACE_ID):
        return repeat(None)
    from feast.protos.feast.types.Value_pb2 import Value

    plain = {cell: Value.FromString(cell).string_val or None for cell in set(cells)}
    return [plain[cell] for cell in cells]


def seconds(at: datetime) -> int:
    """What Feast stores: UTC without its zone, taken for local time; reading undoes the same step."""
    return int(at.astimezone(UTC).replace(tzinfo=None).timestamp())
