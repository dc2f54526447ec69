"""A file is read ahead whole, and the locks on it stay."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from stores.feast import sqlite_writer
from stores.feast import sqlite_writer as sqlite_writer_module
from stores.feast.sqlite_writer import READ_AHEAD_BYTES, SqliteWriter, read_ahead

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of three and a half steps."""
    path = tmp_path / "big"
    path.write_bytes(b"x" * (7 * READ_AHEAD_BYTES // 2))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Inode, start and length of every advice; each reaches the kernel."""
    found, advise = [], os.posix_fadvise

    def note(descriptor: int, start: int, length: int, advice: int) -> None:
        found.append((os.fstat(descriptor).st_ino, start, length))
        advise(descriptor, start, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", note)
    return found


def test_all_of_an_open_file_is_asked_for(big, asked):
    assert not read_ahead(big)
    with big.open("rb"):
        assert read_ahead(big)
    assert asked == [
        (big.stat().st_ino, start, READ_AHEAD_BYTES) for start in range(0, 4 * READ_AHEAD_BYTES, READ_AHEAD_BYTES)
    ]


def test_a_file_without_room_in_memory_is_left(big, asked, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda _: 64)
    with big.open("rb"):
        assert not read_ahead(big)
    assert asked == []


def test_systems_without_such_a_folder_go_on(big, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_writer_module, "OPEN_FILES", tmp_path / "nothing")
    with big.open("rb"):
        assert not read_ahead(big)


def test_advice_that_is_refused_is_not_needed(big, monkeypatch):
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    with big.open("rb"):
        assert not read_ahead(big)


def test_nobody_else_can_write_to_a_database_that_was_read_ahead(tmp_path):
    path = tmp_path / "online.db"
    mine = sqlite3.connect(path)
    mine.execute("CREATE TABLE t (x)")
    mine.execute("BEGIN EXCLUSIVE")
    assert read_ahead(path)
    theirs = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
    refused = subprocess.run([sys.executable, "-c", theirs], capture_output=True, text=True)
    assert "database is locked" in refused.stderr
    mine.close()


@pytest.mark.parametrize(("enough", "calls"), [(1, []), (2**30, ["online.db"])])
def test_the_writer_reads_ahead_once_where_it_writes_much(tmp_path, monkeypatch, enough, calls):
    told = []
    monkeypatch.setattr(sqlite_writer, "read_ahead", lambda path: told.append(path.name))
    monkeypatch.setattr(sqlite_writer, "MIN_READ_AHEAD_BYTES", enough)
    writer = SqliteWriter(str(tmp_path / "online.db"), "p")
    columns = "entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT, event_ts, created_ts"
    writer.connection.execute(f"CREATE TABLE p_view ({columns}, PRIMARY KEY(entity_key, feature_name))")
    for key in (b"a", b"b"):
        writer.write(SimpleNamespace(name="view"), [key], {"f": [b"value"]}, datetime(2026, 1, 1, tzinfo=UTC))
    writer.close()
    assert told == calls
