"""Reading the rows of a lake with DuckDB: one SELECT per table that brings every file to the contract's types.

Files are grouped by the physical types they store, so that one file with a text where the others have
a number neither breaks the reading nor slows the others down. A row is named by `pos`: the number
of its file (its place among the table's readable files) shifted by `ROW_BITS`, plus its row there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
from pydantic import Field

from stores.errors import ConfigError, StoreError
from stores.files.filesystem import Storage
from stores.lake.cells import Cell, cell_of
from stores.lake.contract import Lake, LakeTable
from stores.lake.object_keys import KeyedObject, is_path
from stores.lake.parquet_files import LakeFile
from stores.lake.tables import Column
from stores.settings import Settings

if TYPE_CHECKING:
    import duckdb

ROW_BITS = 40
REMOTE = "lake://"


class ScanConfig(Settings):
    """What DuckDB may use. `threads = 0` takes every core; `temp_directory = ""` the system's."""

    memory_limit: str = "2GB"
    threads: int = Field(default=0, ge=0)
    temp_directory: str = ""


class _LakeFiles(ArrowFSWrapper):  # type: ignore[misc]  # fsspec ships no types
    """The lake's file system as DuckDB can use it, so that an object store needs no extension of DuckDB's."""

    protocol = "lake"
    cachable = False
    fsid = "lake"

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage.fs)
        self.storage = storage

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(REMOTE)

    def glob(self, path: str, **_: Any) -> list[str]:
        """Names are exact here, whatever characters they hold."""
        return [path]

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file for reading; keys that are no paths are read as objects."""
        key = self._strip_protocol(path)
        return super().open(path, mode, **options) if is_path(key) else KeyedObject(self.storage.uri, key)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Size and time of a file."""
        key = self._strip_protocol(path)
        if is_path(key):
            return dict(super().info(path, **options))
        found = KeyedObject(self.storage.uri, key)
        return {"name": key, "size": found.size, "type": "file", "mtime": found.modified}

    def modified(self, path: str) -> Any:
        """When a file was last changed."""
        return self.info(path)["mtime"]


@contextmanager
def connect(lake: Lake | None, config: ScanConfig) -> Iterator["duckdb.DuckDBPyConnection"]:
    """An in-memory DuckDB that may read the lake and its own temporary folder, and nothing else.

    Raises ConfigError where a setting is unusable, StoreError where the current directory is gone.
    """
    import duckdb

    require_directory()
    spill = tempfile.mkdtemp(prefix="samespace-", dir=config.temp_directory or None)
    connection = duckdb.connect()
    try:
        allowed = [f"{spill}/", f"{os.path.realpath(spill)}/"]
        if lake is not None and lake.storage.is_local:
            allowed.append(f"{lake.storage.local()}/")
        elif lake is not None:
            connection.register_filesystem(_LakeFiles(lake.storage))
            allowed.append(REMOTE)
        _configure(connection, config, spill, allowed, _linked(lake))
        yield connection
    finally:
        connection.interrupt()  # a query that a signal ended is still computed, and closing would wait for it
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def require_directory() -> None:
    """Raise StoreError where the current directory was removed: DuckDB (1.5) would end the whole process."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise StoreError(
            "the current directory was removed while the program ran",
            fix="start it in one that stays; nodes of one machine need temporary folders of their own in Ray",
        ) from error


def _linked(lake: Lake | None) -> list[str]:
    """The real places of files that links lead to: DuckDB may read just these outside the lake's folder."""
    if lake is None or not lake.storage.is_local:
        return []
    inside = f"{lake.storage.local()}/"
    files = [file for table in lake.tables.values() for file in table.files]
    return [file.real for file in files if file.real != inside + file.path]


def _configure(
    connection: "duckdb.DuckDBPyConnection", config: ScanConfig, spill: str, allowed: list[str], linked: list[str]
) -> None:
    import duckdb

    settings = {
        "memory_limit": sql_literal(config.memory_limit),
        "threads": str(config.threads or os.cpu_count() or 1),
        "temp_directory": sql_literal(spill),
        "TimeZone": "'UTC'",
        "enable_progress_bar": "false",
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "allowed_directories": f"[{', '.join(map(sql_literal, allowed))}]",
        "allowed_paths": f"[{', '.join(map(sql_literal, linked))}]",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }
    for setting, value in settings.items():
        try:
            connection.execute(f"SET {setting} = {value}")
        except duckdb.Error as error:
            what = f"DuckDB refuses {setting} = {value}: {error}"
            raise ConfigError(what, expected='for example memory_limit = "2GB"') from error


def sql_literal(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def sql_identifier(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


@dataclass(frozen=True)
class Source:
    """Rows with the same physical types: a SQL relation, the SQL of `pos`, and the type of each stored column."""

    relation: str
    pos: str
    types: dict[str, pa.DataType]

    def cells(self, contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> list[tuple[Column, Cell]]:
        """How each contract column is made from what is stored."""
        stored = [self.types.get(column.name, pa.null()) for column in contract]
        ids = [id_types.get(column.name, pa.string()) for column in contract]
        names = [f"src.{sql_identifier(column.name)}" for column in contract]
        return list(zip(contract, map(cell_of, contract, stored, ids, names), strict=True))


def rows_sql(sources: list[Source], contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> str:
    """SELECT with `pos`, every contract column (NULL where not stored), `wrong` and `wrong_value`.

    `wrong` names the first column whose cell is there but not of the contract's type, and
    `wrong_value` is that cell as text; both are NULL in good rows.
    """
    return "\nUNION ALL\n".join(_source_sql(source, contract, id_types) for source in sources)


def _source_sql(source: Source, contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> str:
    cells = source.cells(contract, id_types)
    faults = [(cell.wrong, column.name, cell.shown) for column, cell in cells if cell.wrong]
    parts = [f"{source.pos} AS pos", *(f"{cell.value} AS {sql_identifier(column.name)}" for column, cell in cells)]
    parts.append(_case([(fault, sql_literal(column)) for fault, column, _ in faults]) + " AS wrong")
    parts.append(_case([(fault, shown) for fault, _, shown in faults]) + " AS wrong_value")
    return f"SELECT {', '.join(parts)} FROM {source.relation} AS src"


def lost_sql(sources: list[Source], contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> str:
    """SELECT with `pos`, `column` and `value` of the cells that are there and taken as missing; "" if none can be."""
    found = [
        f'SELECT {source.pos} AS pos, {sql_literal(column.name)} AS "column", {cell.shown} AS value '
        f"FROM {source.relation} AS src WHERE {cell.lost}"
        for source in sources
        for column, cell in source.cells(contract, id_types)
        if cell.lost
    ]
    return "\nUNION ALL\n".join(found)


def _case(branches: list[tuple[str, str]]) -> str:
    whens = " ".join(f"WHEN {condition} THEN {value}" for condition, value in branches)
    return f"CASE {whens} END" if whens else "CAST(NULL AS VARCHAR)"


def lake_sources(lake: Lake, table: LakeTable) -> list[Source]:
    """The files of a table, grouped by what they store of the contract."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, file in enumerate(table.files):
        groups.setdefault(_shape(file, table.contract), []).append(number)
    return [_file_source(lake, table, numbers) for numbers in groups.values()]


def file_source(lake: Lake, table: LakeTable, number: int) -> Source:
    """One file of a table, to be read alone."""
    return _file_source(lake, table, [number])


def _stored(file: LakeFile) -> dict[str, pa.DataType]:
    """Types of the columns that a file stores, and text for those that only its folders give."""
    return {**dict.fromkeys(file.folders, pa.string()), **file.types}


def _shape(file: LakeFile, contract: tuple[Column, ...]) -> tuple[object, ...]:
    stored = _stored(file)
    known = [column.name for column in contract if column.name in stored]
    return tuple((column, str(stored[column]), column in file.types) for column in known)


def _file_source(lake: Lake, table: LakeTable, numbers: list[int]) -> Source:
    files = [table.files[number] for number in numbers]
    paths = ", ".join(sql_literal(_place(lake, file)) for file in files)
    given = [c.name for c in table.contract if c.name in files[0].folders and c.name not in files[0].types]
    columns = "".join(f", {_folder_sql([file.folders[c] for file in files])} AS {sql_identifier(c)}" for c in given)
    relation = (
        f"(SELECT *, file_index, file_row_number{columns} FROM read_parquet([{paths}], hive_partitioning = false))"
    )
    whole = len(numbers) == len(table.files)
    number = "file_index" if whole else f"list_extract({numbers}, CAST(file_index AS BIGINT) + 1)"
    return Source(relation, f"(CAST({number} AS BIGINT) << {ROW_BITS}) | file_row_number", _stored(files[0]))


def _place(lake: Lake, file: LakeFile) -> str:
    """The name under which DuckDB reads a file."""
    root = f"{lake.storage.local()}/" if lake.storage.is_local else REMOTE
    return file.copy or root + file.path


def _folder_sql(values: list[str | None]) -> str:
    """The value that each file's folders give to its rows: DuckDB would also look into the folders above the lake."""
    listed = ", ".join("NULL" if value is None else sql_literal(value) for value in values)
    return f"list_extract(CAST([{listed}] AS VARCHAR[]), CAST(file_index AS BIGINT) + 1)"
