"""The Parquet files of one table of a lake: numbered by path, their footers read (`finding` finds them).

A file that cannot be read, or that lacks a required column, is a `BrokenFile`: it becomes one row of
the dead letter, and the rows it holds (or, where they cannot be counted, would hold at the table's
usual bytes per row) count as refused.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.parquet as pq

from stores.errors import StoreError
from stores.files.filesystem import Storage
from stores.files.object_store import is_outage, outage
from stores.lake.cells import UUID_BYTES
from stores.lake.file_listing import FoundFile
from stores.lake.object_keys import open_input

UNREADABLE = "unreadable file"
MISSING_COLUMN = "missing column"
AMBIGUOUS = "ambiguous column"
FOOTER_THREADS = 8
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_NO_DATA = ("Curl error", "Too many open files", "Cannot allocate memory", "No space left")
"""What errors say where not the file is at fault but the store, the network or this machine."""
_GONE = ("NO_SUCH_KEY", "NoSuchKey", "RESOURCE_NOT_FOUND")


@dataclass(frozen=True)
class LakeFile:
    """One readable Parquet file: path below the lake, its size and rows, and the type of each column.

    `folders` holds the values that hive-partitioned folders (`country=DE/`) give to every row, None for Hive's null.
    `real` is its place on local disk without links; `copy` that of a copy which DuckDB can read (`mending`).
    """

    path: str
    bytes: int
    modified_ns: int
    rows: int = 0
    types: dict[str, pa.DataType] = field(default_factory=dict)
    folders: dict[str, str | None] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    real: str = ""
    copy: str = ""


@dataclass(frozen=True)
class BrokenFile:
    """A file whose rows are all refused; `rows` is exact where the footer could be read, else estimated."""

    path: str
    bytes: int
    modified_ns: int
    reason: str
    column: str
    detail: str
    rows: int


def read_footers(storage: Storage, found: list[FoundFile]) -> tuple[list[LakeFile], list[BrokenFile]]:
    """Rows and column types of each file; second the files whose footer cannot be read.

    Raises StoreError where the store, not a file, is at fault.
    """
    files = [LakeFile(file.path, file.bytes, file.modified_ns, real=file.real) for file in found]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        read = list(pool.map(partial(_read_footer, storage), files))
    good = [file for file in read if isinstance(file, LakeFile)]
    usual = sum(file.bytes for file in good) / max(sum(file.rows for file in good), 1)
    faults = [(file, fault) for file, fault in zip(files, read, strict=True) if isinstance(fault, str)]
    bad = [broken_file(file, UNREADABLE, "", fault, max(1, round(file.bytes / (usual or 1)))) for file, fault in faults]
    return good, bad


def _read_footer(storage: Storage, file: LakeFile) -> LakeFile | str:
    try:
        with open_input(storage, file.path) as stream:
            parquet = pq.ParquetFile(stream)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            types = _types(schema, parquet.schema)
    except (OSError, pa.ArrowException) as error:
        return fault_of(storage, file.path, error)
    folders = dict(_folder_values(file.path))
    return LakeFile(file.path, file.bytes, file.modified_ns, rows, types, folders, tuple(schema.names), file.real)


def fault_of(storage: Storage, path: str, error: Exception) -> str:
    """What is wrong with a file that cannot be read. Raises StoreError where the store or the machine is at fault."""
    told = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) or any(words in told for words in _GONE):
        fix = "files must stay while they are read: run the command again when whoever rewrites them has finished"
        raise StoreError(f"{path} went away while the lake was read", where=storage.uri, fix=fix) from error
    if is_outage(error):
        raise outage(storage.uri, path, error) from error
    if any(words in told for words in _NO_DATA):
        fix = "check the store, the network and the limits of this machine, and run the command again"
        raise StoreError(f"the store does not give {path}: {told}", where=storage.uri, fix=fix) from error
    return told


def _types(schema: pa.Schema, parquet: pq.ParquetSchema) -> dict[str, pa.DataType]:
    """The type of each column, as DuckDB will meet it: it knows UUIDs by Parquet's own mark only."""
    types = {column.name: column.type for column in schema}
    plain = pa.binary(UUID_BYTES)
    odd = {name for name, kind in types.items() if isinstance(kind, pa.BaseExtensionType) or kind == plain}
    for place in range(len(parquet.names) if odd else 0):
        leaf = parquet.column(place)
        if leaf.path in odd and leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" and leaf.length == UUID_BYTES:
            types[leaf.path] = pa.uuid() if leaf.logical_type.type == "UUID" else plain
    return types


def _folder_values(path: str) -> Iterator[tuple[str, str | None]]:
    for part in path.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals:
            yield _unquoted(name) or name, None if value == HIVE_NULL else _unquoted(value)


def _unquoted(escaped: str) -> str | None:
    """Text without Hive's percent escapes; None where they are of bytes that are not UTF-8."""
    try:
        return unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        return None


def broken_file(file: LakeFile, reason: str, column: str, detail: str, rows: int) -> BrokenFile:
    """A file taken out of the reading with the reason."""
    return BrokenFile(file.path, file.bytes, file.modified_ns, reason, column, detail, rows)


def ambiguous(file: LakeFile, wanted: Iterable[str]) -> tuple[str, str]:
    """The first of the wanted columns that the file has twice or in another case, and what it has; empty if none."""
    lower = [name.lower() for name in file.names]
    for column in wanted:
        there = [name for name, low in zip(file.names, lower, strict=True) if low == column]
        if there and there != [column]:
            return column, f"the file has {', '.join(there)}"
    return "", ""
