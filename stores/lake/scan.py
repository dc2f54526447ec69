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
import pyarrow.types as pat
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
from pydantic import Field

from stores.errors import ConfigError, StoreError
from stores.lake.contract import Lake, LakeTable
from stores.lake.files import LakeFile
from stores.lake.tables import Column, Kind
from stores.settings import Settings

if TYPE_CHECKING:
    import duckdb

ROW_BITS = 40
_REMOTE = "lake://"


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

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(_REMOTE)

    def glob(self, path: str, **_: Any) -> list[str]:
        """Names are exact here, whatever characters they hold."""
        return [path]


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
        allowed = [f"{spill}/"]
        if lake is not None and lake.storage.is_local:
            allowed.append(f"{lake.storage.local()}/")
        elif lake is not None:
            connection.register_filesystem(_LakeFiles(lake.storage.fs))
            allowed.append(_REMOTE)
        _configure(connection, config, spill, allowed)
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


def _configure(connection: "duckdb.DuckDBPyConnection", config: ScanConfig, spill: str, allowed: list[str]) -> None:
    import duckdb

    settings = {
        "memory_limit": text(config.memory_limit),
        "threads": str(config.threads or os.cpu_count() or 1),
        "temp_directory": text(spill),
        "TimeZone": "'UTC'",
        "enable_progress_bar": "false",
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "allowed_directories": f"[{', '.join(map(text, allowed))}]",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }
    for setting, value in settings.items():
        try:
            connection.execute(f"SET {setting} = {value}")
        except duckdb.Error as error:
            what = f"DuckDB refuses {setting} = {value}: {error}"
            raise ConfigError(what, expected='for example memory_limit = "2GB"') from error


def text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def name(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_type(kind: Kind, id_type: pa.DataType) -> str:
    """The SQL type that holds a contract column; times are microseconds since 1970."""
    if kind is Kind.ID:
        return "BIGINT" if pat.is_integer(id_type) else "VARCHAR"
    numbers = {Kind.TIME: "BIGINT", Kind.INTEGER: "BIGINT", Kind.NUMBER: "DOUBLE"}
    return numbers.get(kind) or {Kind.TEXT: "VARCHAR", Kind.TEXTS: "VARCHAR[]", Kind.NUMBERS: "FLOAT[]"}[kind]


def cell_sql(kind: Kind, stored: pa.DataType, id_type: pa.DataType, cell: str) -> tuple[str, bool]:
    """SQL that brings one cell to the contract's type, NULL where it cannot; second whether it can fail."""
    wanted = sql_type(kind, id_type)
    if pat.is_null(stored):
        return f"CAST(NULL AS {wanted})", False
    if kind is Kind.TIME:
        return _time_sql(stored, cell)
    if wanted.endswith("[]"):
        nested = pat.is_list(stored) or pat.is_large_list(stored) or pat.is_fixed_size_list(stored)
        return (f"TRY_CAST({cell} AS {wanted})" if nested else f"CAST(NULL AS {wanted})"), True
    if pat.is_nested(stored) or pat.is_binary(stored) or pat.is_large_binary(stored):
        return f"CAST(NULL AS {wanted})", True
    if wanted == "BIGINT":
        return _whole_sql(stored, cell)
    if wanted == "VARCHAR":
        return (cell if _is_text(stored) else f"CAST({cell} AS VARCHAR)"), False
    return f"TRY_CAST({cell} AS {wanted})", not (pat.is_integer(stored) or pat.is_floating(stored))


def _is_text(stored: pa.DataType) -> bool:
    if pat.is_dictionary(stored):
        stored = stored.value_type
    return bool(pat.is_string(stored) or pat.is_large_string(stored) or pat.is_string_view(stored))


def _time_sql(stored: pa.DataType, cell: str) -> tuple[str, bool]:
    if pat.is_timestamp(stored) or pat.is_date(stored):
        return f"epoch_us({cell})", False
    if _is_text(stored):
        return f"epoch_us(TRY_CAST({cell} AS TIMESTAMPTZ))", True
    return "CAST(NULL AS BIGINT)", True  # a bare number does not say whether it counts seconds or nanoseconds


def _whole_sql(stored: pa.DataType, cell: str) -> tuple[str, bool]:
    """A whole number; DuckDB's own casts would round 1.5 to 2."""
    if pat.is_integer(stored):
        return f"TRY_CAST({cell} AS BIGINT)", pat.is_uint64(stored)
    if _is_text(stored):
        return f"CASE WHEN regexp_full_match({cell}, '[+-]?[0-9]+') THEN TRY_CAST({cell} AS BIGINT) END", True
    if pat.is_floating(stored) or pat.is_decimal(stored):
        return f"CASE WHEN {cell} = floor({cell}) THEN TRY_CAST({cell} AS BIGINT) END", True
    return "CAST(NULL AS BIGINT)", True


@dataclass(frozen=True)
class Source:
    """Rows with the same physical types: a SQL relation, the SQL of `pos`, and the type of each stored column."""

    relation: str
    pos: str
    types: dict[str, pa.DataType]


def rows_sql(sources: list[Source], contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> str:
    """SELECT with `pos`, every contract column (NULL where not stored), `wrong` and `wrong_value`.

    `wrong` names the first column whose cell is there but not of the contract's type, and
    `wrong_value` is that cell as text; both are NULL in good rows.
    """
    return "\nUNION ALL\n".join(_source_sql(source, contract, id_types) for source in sources)


def _source_sql(source: Source, contract: tuple[Column, ...], id_types: dict[str, pa.DataType]) -> str:
    parts, faults = [f"{source.pos} AS pos"], []
    for column in contract:
        id_type = id_types.get(column.name, pa.string())
        stored = source.types.get(column.name, pa.null())
        cell = f"src.{name(column.name)}"
        sql, can_fail = cell_sql(column.kind, stored, id_type, cell)
        parts.append(f"{sql} AS {name(column.name)}")
        if can_fail:
            faults.append((f"{cell} IS NOT NULL AND ({sql}) IS NULL", column.name, f"CAST({cell} AS VARCHAR)"))
    parts.append(_case([(fault, text(column)) for fault, column, _ in faults]) + " AS wrong")
    parts.append(_case([(fault, shown) for fault, _, shown in faults]) + " AS wrong_value")
    return f"SELECT {', '.join(parts)} FROM {source.relation} AS src"


def _case(branches: list[tuple[str, str]]) -> str:
    whens = " ".join(f"WHEN {condition} THEN {value}" for condition, value in branches)
    return f"CASE {whens} END" if whens else "CAST(NULL AS VARCHAR)"


def lake_sources(lake: Lake, table: LakeTable) -> list[Source]:
    """The files of a table, grouped by what they store of the contract."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, file in enumerate(table.files):
        groups.setdefault(_shape(file, table.contract), []).append(number)
    return [_file_source(lake, table, numbers) for numbers in groups.values()]


def _stored(file: LakeFile) -> dict[str, pa.DataType]:
    """Types of the columns that a file stores, and text for those that only its folders give."""
    return {**dict.fromkeys(file.folders, pa.string()), **file.types}


def _shape(file: LakeFile, contract: tuple[Column, ...]) -> tuple[object, ...]:
    stored = _stored(file)
    known = [column.name for column in contract if column.name in stored]
    return tuple(file.folders), *((column, str(stored[column]), column in file.types) for column in known)


def _file_source(lake: Lake, table: LakeTable, numbers: list[int]) -> Source:
    files = [table.files[number] for number in numbers]
    root = f"{lake.storage.local()}/" if lake.storage.is_local else _REMOTE
    paths = ", ".join(text(root + file.path) for file in files)
    wanted = {column.name for column in table.contract}
    folders = any((wanted & set(file.folders)) - set(file.types) for file in files)
    options = "hive_partitioning = true, hive_types_autocast = false" if folders else "hive_partitioning = false"
    relation = f"(SELECT *, file_index, file_row_number FROM read_parquet([{paths}], {options}))"
    whole = len(numbers) == len(table.files)
    number = "file_index" if whole else f"list_extract({numbers}, CAST(file_index AS BIGINT) + 1)"
    return Source(relation, f"(CAST({number} AS BIGINT) << {ROW_BITS}) | file_row_number", _stored(files[0]))
