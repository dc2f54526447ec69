"""The Parquet files of one table of a lake: found, numbered by path, their footers read.

A file that cannot be read, or that lacks a required column, is a `BrokenFile`: it becomes one row of
the dead letter, and the rows it holds (or, where they cannot be counted, would hold at the table's
usual bytes per row) count as refused.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stores.s3 import is_outage, outage
from stores.storage import Storage

UNREADABLE = "unreadable file"
MISSING_COLUMN = "missing column"
FOOTER_THREADS = 8


@dataclass(frozen=True)
class LakeFile:
    """One readable Parquet file: path below the lake, its size and rows, and the type of each column.

    `folders` holds the values that hive-partitioned folders (`country=DE/`) give to every row.
    """

    path: str
    bytes: int
    modified_ns: int
    rows: int = 0
    types: dict[str, pa.DataType] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)


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


def list_files(storage: Storage, table: str) -> list[LakeFile]:
    """The Parquet files below a table's folder by path, footers not read yet.

    Files and folders whose names begin with `_` or `.` are left out, as Spark and Hive do.
    """
    selector = pafs.FileSelector(table, recursive=True, allow_not_found=True)
    try:
        found = [info for info in storage.fs.get_file_info(selector) if info.type == pafs.FileType.File]
    except OSError as error:
        raise outage(storage.uri, table, error) from error
    kept = [info for info in found if _is_data(info.path)]
    files = [LakeFile(info.path, int(info.size or 0), int(info.mtime_ns or 0)) for info in kept]
    return sorted(files, key=lambda file: file.path)


def _is_data(path: str) -> bool:
    parts = path.split("/")
    return path.lower().endswith((".parquet", ".parq", ".pq")) and not any(part[:1] in ("_", ".") for part in parts)


def read_footers(storage: Storage, files: list[LakeFile]) -> tuple[list[LakeFile], list[BrokenFile]]:
    """Rows and column types of each file; second the files whose footer cannot be read."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        read = list(pool.map(lambda file: _read_footer(storage, file), files))
    good = [file for file in read if isinstance(file, LakeFile)]
    usual = sum(file.bytes for file in good) / max(sum(file.rows for file in good), 1)
    faults = [(file, fault) for file, fault in zip(files, read, strict=True) if isinstance(fault, str)]
    bad = [broken(file, UNREADABLE, "", fault, max(1, round(file.bytes / (usual or 1)))) for file, fault in faults]
    return good, bad


def _read_footer(storage: Storage, file: LakeFile) -> LakeFile | str:
    try:
        with storage.fs.open_input_file(file.path) as stream:
            parquet = pq.ParquetFile(stream)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        if is_outage(error):
            raise outage(storage.uri, file.path, error) from error
        return " ".join(str(error).split())
    types = {column.name: column.type for column in schema}
    return LakeFile(file.path, file.bytes, file.modified_ns, rows, types, dict(_folder_values(file.path)))


def _folder_values(path: str) -> Iterator[tuple[str, str]]:
    for part in path.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals:
            yield unquote(name), unquote(value)


def broken(file: LakeFile, reason: str, column: str, detail: str, rows: int) -> BrokenFile:
    """A file taken out of the reading with the reason."""
    return BrokenFile(file.path, file.bytes, file.modified_ns, reason, column, detail, rows)


def read_fault(storage: Storage, file: LakeFile, columns: list[str]) -> str:
    """What goes wrong when all pages of some columns are read; empty if nothing does."""
    try:
        with storage.fs.open_input_file(file.path) as stream:
            parquet = pq.ParquetFile(stream)
            for _ in parquet.iter_batches(columns=[name for name in columns if name in file.types]):
                pass
    except (OSError, pa.ArrowException) as error:
        if is_outage(error):
            raise outage(storage.uri, file.path, error) from error
        return " ".join(str(error).split())
    return ""
