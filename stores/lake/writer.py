"""What every writer of a lake shares: where it may write, and in which form."""

import pyarrow as pa
import pyarrow.fs as pafs

from stores.errors import UsageError
from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes


def create_lake(out: str) -> Storage:
    """The storage for a new lake at `out`, a folder or `s3://bucket/prefix`.

    Raises UsageError where something is there already: a writer that mixed its rows with those of
    another lake would make one that nobody asked for.
    """
    storage = Storage(out)
    if storage.is_local and storage.local().is_file():
        raise UsageError(f"{out} is a file", expected="a folder that is empty or not there yet", fix="name another one")
    selector = pafs.FileSelector("", allow_not_found=True)
    there = sorted(info.base_name for info in storage.fs.get_file_info(selector) if not info.base_name.startswith("."))
    if there:
        raise UsageError(
            "there is something in the place for the lake",
            where=f"{out}: {', '.join(there[:5])}",
            expected="a folder that is empty or not there yet",
            fix="name another place, or remove this one first",
        )
    return storage


def write_part(storage: Storage, table: str, part: int, rows: pa.Table) -> None:
    """Write `rows` as part number `part` of a table; the names of parts sort in the order of their rows."""
    storage.write(f"{table}/part-{part:05d}.parquet", parquet_bytes(rows))
