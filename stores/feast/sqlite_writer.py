"""Write the online store on SQLite in bulk, its file read ahead.

Rows lie all over the file, and page by page a disk gives them at a twentieth of its speed.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stores.errors import StoreError

OPEN_FILES = Path("/proc/self/fd")
READ_AHEAD_BYTES = 2**17
"""Bytes to an advice: of a longer one the kernel follows no more than the device's read-ahead, by default so much."""


def read_ahead(path: Path) -> bool:
    """Ask the kernel for all of a file that this process has open; whether it was asked.

    It is not where the file has no room in half of the memory, nor where Linux's calls are missing or refused. Reading
    goes on in the background. The file is not opened: a process that closes one loses all of its locks on it, SQLite's
    too.
    """
    size, room = path.stat().st_size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    opened = _opened(path)
    if opened is None or size > room:
        return False
    try:
        for start in range(0, size, READ_AHEAD_BYTES):
            os.posix_fadvise(opened, start, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
    except OSError:  # it is no more than advice
        return False
    return True


def _opened(path: Path) -> int | None:
    """A descriptor of this process for a file."""
    wanted = path.stat()
    for entry in OPEN_FILES.iterdir() if OPEN_FILES.is_dir() else ():
        with suppress(OSError):  # closed meanwhile
            if os.path.samestat(os.fstat(int(entry.name)), wanted):
                return int(entry.name)
    return None


UPSERT = (
    "INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES {rows} "
    "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, value_text = excluded.value_text, "
    "event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
NO_ROWS = "WHERE entity_key IS NULL"
BUSY_TIMEOUT_S = 60.0
PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -262144", "wal_autocheckpoint = 16384")
"""Nothing needs to be on the disk before `close`, which folds the log and syncs it, and only then the pointer moves.
Keys of one shard lie all over the tree: with 256 MB of pages in memory each is written once and not once per batch."""
MIN_READ_AHEAD_BYTES = 2**20
"""The file is read ahead once so many of its bytes or fewer come to a row written."""
MAX_LITERAL_BYTES = 1024
"""Longest value, in bytes, that is written out: a statement has a greatest length."""
STRING_FIELD = b"\x12"
"""The tag of `string_val` in Feast's `Value`: field 2, length-delimited."""


class SqliteWriter:
    """Writes the tables of one database file; each batch is one transaction."""

    def __init__(self, path: str, project: str) -> None:
        self.path, self.project, self.lean = Path(path), project, set[str]()
        self.rows, self.ahead = 0, False
        self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        for pragma in PRAGMAS:
            self.connection.execute(f"PRAGMA {pragma}")

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys."""
        if not keys:
            return
        self._make_lean(f"{self.project}_{view.name}")
        self._read_ahead(len(keys))
        batch = _UpsertBatch(seconds(at), [keys])
        rows = ", ".join(batch.row(name, values[name]) for name in sorted(values))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        ordered = ([cells[place] for place in order] for cells in batch.handed)
        with self.connection:  # rows in the order of the primary key: every page of the tree is visited once
            self.connection.executemany(UPSERT.format(table=self._table(view), rows=rows), zip(*ordered, strict=True))

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Delete the rows of entities."""
        with self.connection:
            delete = f"DELETE FROM {self._table(view)} WHERE entity_key = ?"
            self.connection.executemany(delete, ((key,) for key in keys))

    def purge(self) -> None:
        """Leave no byte of removed rows in the file or its log. Raises StoreError while a reader keeps the log open."""
        self.connection.execute("VACUUM")
        busy, *_ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(
                "a reader keeps the old pages of the SQLite online store open",
                fix="run the command again when the reader is done",
            )

    def close(self) -> None:
        """Fold the log into the database, so that the file alone can be copied."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()

    def _read_ahead(self, rows: int) -> None:
        """Have the whole file in memory, once, where many rows are written."""
        self.rows += rows
        if not self.ahead and self.path.stat().st_size <= MIN_READ_AHEAD_BYTES * self.rows:
            self.ahead = True
            read_ahead(self.path)

    def _make_lean(self, table: str) -> None:
        """Put an index without rows in the place of Feast's, once per table."""
        if table in self.lean:
            return
        self.lean.add(table)
        name = f"{table}_ek"
        found = self.connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        if found is None or NO_ROWS not in found[0]:
            with self.connection:
                self.connection.execute(f"DROP INDEX IF EXISTS {_quoted(name)}")
                self.connection.execute(f"CREATE INDEX {_quoted(name)} ON {_quoted(table)} (entity_key) {NO_ROWS}")

    def _table(self, view: Any) -> str:
        return _quoted(f"{self.project}_{view.name}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class _UpsertBatch:
    """What one statement says of a batch: the time, and the columns that are handed over, the keys first."""

    moment: int
    handed: list[Sequence[bytes | str | None]]

    def row(self, name: str, cells: list[bytes]) -> str:
        """The row of one feature as the statement has it: what all entities share written out, the rest handed over."""
        text = f"CAST(x'{name.encode().hex()}' AS TEXT)"
        return f"(?1, {text}, {self._cell(cells)}, {self._text(cells)}, {self.moment}, {self.moment})"

    def _cell(self, cells: list[bytes]) -> str:
        short = len(cells[0]) <= MAX_LITERAL_BYTES and cells.count(cells[0]) == len(cells)
        return f"x'{cells[0].hex()}'" if short else self._hand_over(cells)

    def _text(self, cells: list[bytes]) -> str:
        """Feast keeps strings in the clear as well, for its own text search."""
        if not any(cell[:1] == STRING_FIELD for cell in cells):
            return "NULL"
        from feast.protos.feast.types.Value_pb2 import Value

        plain = {cell: Value.FromString(cell).string_val if cell[:1] == STRING_FIELD else None for cell in set(cells)}
        only = next(iter(plain.values()))
        if len(plain) > 1 or only is None or len(only.encode()) > MAX_LITERAL_BYTES:
            return self._hand_over([plain[cell] for cell in cells])
        return f"CAST(x'{only.encode().hex()}' AS TEXT)"

    def _hand_over(self, cells: Sequence[bytes | str | None]) -> str:
        self.handed.append(cells)
        return f"?{len(self.handed)}"


def seconds(at: datetime) -> int:
    """What Feast stores: UTC without its zone, taken for local time; reading undoes the same step."""
    return int(at.astimezone(UTC).replace(tzinfo=None).timestamp())
