"""Reading a lake whose files may hold what DuckDB stops at: only those files are read in another way, or set aside.

The fast reading is tried as if all were well. If DuckDB stops, every file is read alone; one that stops DuckDB again is
copied by Arrow in plain forms (`plain`), whose cells can be judged one by one; one that Arrow cannot read either is
refused whole.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from stores.errors import StoreError
from stores.lake.contract import Lake
from stores.lake.files import UNREADABLE, BrokenFile, LakeFile, broken, fault_of
from stores.lake.plain import copy_file, is_misread
from stores.lake.scan import file_source, lost_sql, name, rows_sql
from stores.lake.tables import MEMBER_AND_TITLE
from stores.s3 import is_outage, outage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

T = TypeVar("T")
_STREAMED = ("Invalid Input Error", "Conversion Error", "Out of Range Error", "Serialization Error", "IO Error")
"""How DuckDB's errors begin that arrive as Arrow's while rows are streamed."""
_MEMORY = ("Out of Memory Error", "failed to allocate", "could not allocate")
_DISK = ("No space left", "max_temp_directory_size", "failed to offload")


def attempt(connection: "Connection", lake: Lake, tables: tuple[str, ...], work: Callable[[Lake], T]) -> T:
    """`work` on a lake; where something in a file stops DuckDB, once more on the lake with that file mended.

    `work` reads `tables` through `scan` on this connection and must be able to begin anew. Raises as `work` does, and
    ContractError where no file of a table can be read, or one changed meanwhile.
    """
    sound = _without_misread(connection, lake, tables)
    try:
        result = work(sound)
    except Exception as error:
        if not _is_of_data(error):
            raise
        lake.require_unchanged(tables)
        mended = mend(connection, sound, tables)
        if mended is sound:
            raise
        result = work(mended)
    lake.require_unchanged(tables)
    return result


def mend(connection: "Connection", lake: Lake, tables: tuple[str, ...]) -> Lake:
    """The lake with plain copies of the files that stop DuckDB, without those that nothing can read; reads all."""
    for table in tables:
        numbers = range(len(lake.tables[table].files))
        stopped = [number for number in numbers if _stops(connection, lake, table, number)]
        lake = _copied(connection, lake, table, stopped) if stopped else lake
    return lake


def _without_misread(connection: "Connection", lake: Lake, tables: tuple[str, ...]) -> Lake:
    for table in tables:
        found = lake.tables[table]
        wanted = {column.name for column in found.contract}
        misread = [
            number
            for number, file in enumerate(found.files)
            if any(is_misread(kind) for column, kind in file.types.items() if column in wanted)
        ]
        lake = _copied(connection, lake, table, misread) if misread else lake
    return lake


def _copied(connection: "Connection", lake: Lake, table: str, numbers: list[int]) -> Lake:
    """The lake with some files of a table replaced by plain copies, or set aside."""
    found = lake.tables[table]
    made = {number: _copy(connection, lake, table, number) for number in numbers}
    files = [made.get(number, file) for number, file in enumerate(found.files)]
    bad = [file for file in files if isinstance(file, BrokenFile)]
    return lake.with_files(table, tuple(f for f in files if isinstance(f, LakeFile)), (*found.broken, *bad))


def _copy(connection: "Connection", lake: Lake, table: str, number: int) -> LakeFile | BrokenFile:
    found = lake.tables[table]
    file = found.files[number]
    spill = connection.execute("SELECT current_setting('temp_directory')").fetchone()
    out = Path(spill[0] if spill else "") / f"{table}-{number}.parquet"
    try:
        types = copy_file(lake.storage, file, found.contract, out)
    except (OSError, pa.ArrowException, ValueError) as error:
        return broken(file, UNREADABLE, "", fault_of(lake.storage, file.path, error), file.rows)
    copied = replace(file, types={**file.types, **types}, copy=str(out))
    files = (*found.files[:number], copied, *found.files[number + 1 :])
    told = _stops(connection, lake.with_files(table, files, found.broken), table, number)
    return broken(file, UNREADABLE, "", told, file.rows) if told else copied


def _stops(connection: "Connection", lake: Lake, table: str, number: int) -> str:
    """What DuckDB says where it cannot read all cells of a file; empty where it can."""
    import duckdb

    found = lake.tables[table]
    source, ids = [file_source(lake, found, number)], {column: lake.id_type(column) for column in MEMBER_AND_TITLE}
    cells = ", ".join([*(name(column.name) for column in found.contract), "wrong", "wrong_value"])
    queries = [f"SELECT max(hash({cells})) FROM ({rows_sql(source, found.contract, ids)})"]
    lost = lost_sql(source, found.contract, ids)
    queries += [f'SELECT max(hash(pos, "column", value)) FROM ({lost})'] if lost else []
    try:
        for query in queries:
            connection.execute(query).fetchone()
    except duckdb.Error as error:
        if not _is_of_data(error):
            raise
        return _first_line(error)
    return ""


def _is_of_data(error: Exception) -> bool:
    """Whether what stopped DuckDB may be in a file: its own errors, not those of memory and disk."""
    import duckdb

    if any(words in str(error) for words in (*_MEMORY, *_DISK)):
        return False
    if isinstance(error, (duckdb.OutOfMemoryException, duckdb.FatalException)):
        return False
    return isinstance(error, duckdb.Error) or _is_streamed(error)


def _is_streamed(error: Exception) -> bool:
    return isinstance(error, (OSError, pa.ArrowException)) and str(error).startswith(_STREAMED)


@contextmanager
def reading(lake: Lake) -> Iterator[None]:
    """Raise StoreError with the cure that fits where DuckDB cannot go on with a lake."""
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        if isinstance(error, pa.ArrowException) and not _is_streamed(error):
            raise
        if is_outage(error):
            raise outage(lake.storage.uri, "", error) from error
        told = _first_line(error)
        raise StoreError(f"reading the lake failed: {told}", where=lake.storage.uri, fix=_cure(error, told)) from error


def _cure(error: Exception, told: str) -> str:
    import duckdb

    if isinstance(error, duckdb.OutOfMemoryException) or any(words in told for words in _MEMORY):
        return "give DuckDB more memory (histories.scan.memory_limit) or room to spill (histories.scan.temp_directory)"
    if any(words in told for words in _DISK):
        return "free space for temporary files, or name another disk: histories.scan.temp_directory"
    return "see that the store answers and that files stay while they are read, then run the command again"


def _first_line(error: Exception) -> str:
    """What an error says, without the SQL that DuckDB quotes."""
    return re.split(r"\n\s*\n|\nLINE ", str(error))[0].strip()
