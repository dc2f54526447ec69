"""List the Parquet files of one table of a lake, and name every other file that lies there.

A file is data by its ending or, with an ending that says nothing (Hive and Athena write `000001_0`), by its first
bytes. What is left out is listed, except the by-products that Spark and others leave beside their data. A folder that
a table format keeps (Delta Lake, Iceberg, Hudi) is refused: its files are not the table, its log says which are.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from stores.errors import ContractError, StoreError
from stores.files.filesystem import TEMPORARY, Storage
from stores.files.object_store import outage
from stores.lake.object_keys import open_input

LISTING_THREADS = 8
MAX_FILES_LISTED = 20
INSPECT_BYTES = "look at its bytes"
PARQUET_ENDINGS = (".parquet", ".parq", ".pq")
_OTHERS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xml", ".orc", ".avro", ".arrow", ".feather", ".zip")
_MAGIC = (b"PAR1", b"PARE")
_BY_PRODUCTS = (
    *("_SUCCESS", "_metadata", "_common_metadata", "_started_*", "_committed_*", "*.crc", "*_$folder$"),
    *("_temporary", "_spark_metadata", ".spark-staging*", ".DS_Store", "._*", f"{TEMPORARY}*"),
)
_BY_ENDING = (".crc", "_$folder$")
_FORMATS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi", ".hoodie_partition_metadata": "Hudi"}
_EXPORTS = {
    "Delta Lake": 'spark.read.format("delta").load(SRC).write.parquet(OUT), or DuckDB\'s delta_scan',
    "Iceberg": 'spark.read.format("iceberg").load(SRC).write.parquet(OUT), or DuckDB\'s iceberg_scan',
    "Hudi": 'spark.read.format("hudi").load(SRC).write.parquet(OUT)',
}


@dataclass(frozen=True)
class FoundFile:
    """A file below a table's folder: its path below the lake, its size, when it changed.

    `real` is its place on local disk without links (empty on an object store), `linked` whether a link leads there.
    `why` says why it is left out, and is empty for data.
    """

    path: str
    bytes: int = 0
    modified_ns: int = 0
    real: str = ""
    linked: bool = False
    why: str = ""


def find_files(storage: Storage, table: str) -> tuple[list[FoundFile], list[FoundFile]]:
    """The data files below a table's folder by path, and those that are left out.

    Raises ContractError for a folder that a table format keeps, StoreError where a folder cannot be listed.
    """
    listed = list_files(storage, table)
    _refuse_formats(storage, table, [file.path for file in listed])
    files = [file for file in listed if not file.path.endswith("/") and not _is_by_product(file.path)]
    named = _once([replace(file, why=file.why or _why_by_name(file)) for file in files])
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        looked = iter(list(pool.map(partial(_why_by_bytes, storage), [f for f in named if f.why == INSPECT_BYTES])))
    judged = [replace(file, why=next(looked)) if file.why == INSPECT_BYTES else file for file in named]
    return [file for file in judged if not file.why], [_printable(file) for file in judged if file.why]


def list_files(storage: Storage, table: str) -> list[FoundFile]:
    """Everything below a table's folder, links followed; folders end with a slash. Raises StoreError."""
    try:
        return list(_local(storage, table) if storage.is_local else _remote(storage, table))
    except OSError as error:
        raise StoreError(
            f"{table}/ cannot be listed: {' '.join(str(error).split())}",
            where=storage.uri,
            fix="check the rights on this folder, and that the store answers",
        ) from error


def _remote(storage: Storage, table: str) -> Iterator[FoundFile]:
    selector = pafs.FileSelector(table, recursive=True, allow_not_found=True)
    try:
        infos = storage.fs.get_file_info(selector)
    except OSError as error:
        raise outage(storage.uri, table, error) from error
    for info in infos:
        folder = info.type == pafs.FileType.Directory
        yield FoundFile(f"{info.path}/" if folder else info.path, int(info.size or 0), int(info.mtime_ns or 0))


def _local(storage: Storage, table: str) -> Iterator[FoundFile]:
    root = storage.local()
    yield from _walk(root, table, (os.path.realpath(root / table),))


def _walk(root: Path, folder: str, above: tuple[str, ...]) -> Iterator[FoundFile]:
    """Everything below a folder, links followed; `above` are the real folders on the way, so that no loop is walked."""
    with os.scandir(root / folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path, linked = f"{folder}/{entry.name}", entry.is_symlink()
        real = os.path.realpath(entry.path) if linked else f"{above[-1]}/{entry.name}"
        try:
            seen = entry.stat()
        except OSError:
            yield FoundFile(path, why="a link that leads nowhere" if linked else "it cannot be looked at")
            continue
        if stat.S_ISREG(seen.st_mode):
            yield FoundFile(path, seen.st_size, seen.st_mtime_ns, real, linked)
        elif not stat.S_ISDIR(seen.st_mode):
            yield FoundFile(path, why="no regular file")
        elif real in above:
            yield FoundFile(path, why="a link to a folder that it lies in")
        else:
            yield FoundFile(f"{path}/")
            yield from _walk(root, path, (*above, real))


def _once(files: list[FoundFile]) -> list[FoundFile]:
    """The files by path. One that several paths lead to is data under one of them, its own before that of a link."""
    first: dict[str, str] = {}
    for file in sorted(files, key=lambda file: (file.linked, file.path)):
        if file.real and file.why in ("", INSPECT_BYTES):
            first.setdefault(file.real, file.path)
    return sorted((_unless_again(file, first) for file in files), key=lambda file: file.path)


def _unless_again(file: FoundFile, first: dict[str, str]) -> FoundFile:
    name = first.get(file.real, file.path)
    return file if name == file.path or file.why not in ("", INSPECT_BYTES) else replace(file, why=f"it is {name}")


def _is_by_product(path: str) -> bool:
    """Whether a path is of what Spark, Hive and others leave beside their data."""
    parts = [part for part in path.split("/")[1:] if part[:1] in ("_", ".") or part.endswith(_BY_ENDING)]
    return any(fnmatch(part, pattern) for part in parts for pattern in _BY_PRODUCTS)


def _why_by_name(file: FoundFile) -> str:
    """Why a file is no data, as far as its name says; empty where it is, `INSPECT_BYTES` where it does not say."""
    name = file.path.rsplit("/", 1)[-1].lower()
    if not _is_utf8(file.path):
        return "its name is not UTF-8"
    if any(_is_hidden(part) for part in file.path.split("/")[1:]):
        return "hidden: a name on its path begins with _ or ."
    if name.endswith(PARQUET_ENDINGS):
        return ""
    if name.endswith(_OTHERS):
        return f"not Parquet but {name.rsplit('.', 1)[-1]}"
    return INSPECT_BYTES if file.bytes else "empty"


def _why_by_bytes(storage: Storage, file: FoundFile) -> str:
    try:
        with open_input(storage, file.path) as stream:
            return "" if stream.read(4) in _MAGIC else "not Parquet by its first bytes"
    except (OSError, pa.ArrowException) as error:
        return f"it cannot be read: {' '.join(str(error).split())}"


def _is_utf8(path: str) -> bool:
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


def _printable(file: FoundFile) -> FoundFile:
    return replace(file, path=os.fsencode(file.path).decode(errors="backslashreplace"))


def _is_hidden(part: str) -> bool:
    """As Spark judges names; `_date=2026-01-01` is a partition."""
    return (part.startswith("_") and "=" not in part) or (part.startswith(".") and part not in (".", ".."))


def _refuse_formats(storage: Storage, table: str, paths: list[str]) -> None:
    for path in paths:
        parts = path.rstrip("/").split("/")
        kind = next((_FORMATS[part] for part in parts if part in _FORMATS), None)
        iceberg = len(parts) > 1 and parts[-2] == "metadata" and _is_iceberg(parts[-1])
        if kind is None and not iceberg:
            continue
        kind = kind or "Iceberg"
        raise ContractError(
            f"{table}/ is a table of {kind}: its log says which of its files are the table, and is not read yet",
            where=f"{storage.uri}/{path}",
            expected="a folder of plain Parquet files, all of which count",
            fix=f"write the current version to plain Parquet, for example {_EXPORTS[kind]}",
        )


def _is_iceberg(name: str) -> bool:
    return name == "version-hint.text" or name.endswith((".metadata.json", ".metadata.json.gz"))


def told_left_out(files: Iterable[FoundFile], shown: int = 3) -> str:
    """How many files are left out and why the first ones are, to be put behind another sentence; "" for none."""
    listed = list(files)
    first = "; ".join(f"{file.path}: {file.why}" for file in listed[:shown])
    return f"; {len(listed):,} files are left out ({first}{'; ...' if len(listed) > shown else ''})" if listed else ""


def describe_left_out(files: list[FoundFile]) -> dict[str, Any]:
    """Return how many files are left out, and the path and the reason of the first ones."""
    return {"count": len(files), "first": [{"path": file.path, "why": file.why} for file in files[:MAX_FILES_LISTED]]}


def log_left_out(files: list[FoundFile]) -> None:
    """Say on stderr which files are not read, if there are any."""
    if told := told_left_out(files):
        sys.stderr.write(f"  {told.lstrip('; ')}\n")
