"""The Parquet files that samespace writes, and how it reads Parquet that may be damaged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stores.errors import CorruptError
from stores.files.object_store import is_outage, outage


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """A table as the bytes of one Parquet file; the same table always gives the same bytes."""
    sink = pa.BufferOutputStream()
    with writer(sink, table.schema) as made:
        made.write_table(table)
    return sink.getvalue()


def writer(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of tables into one file.

    Vectors are stored plainly: a dictionary of floats is longer than they are, compressing them takes half of the time
    of writing and of reading for a few percent of the bytes, and nobody asks for their least and greatest entry.
    """
    leaves = dict(pair for field in schema for pair in _leaves(field.name, field.type))
    plain = {path for path, kind in leaves.items() if "." in path and pa.types.is_floating(kind)}
    others = [path for path in leaves if path not in plain]
    return pq.ParquetWriter(
        sink,
        schema,
        compression={path: "NONE" if path in plain else "ZSTD" for path in leaves},
        use_dictionary=others,
        write_statistics=others,
        write_page_checksum=True,
    )


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet's own names of the plain columns in a column, and their types."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def table_of(
    data: bytes, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
) -> pa.Table:
    """The bytes of a Parquet file, named `path`, as a table. Raises CorruptError where they are none."""
    with named(path):
        return pq.ParquetFile(pa.BufferReader(data), read_dictionary=dictionaries).read(columns)


@contextmanager
def named(path: str, where: str = "") -> Iterator[None]:
    """Raise CorruptError, which names the file, where Parquet cannot be read, StoreError where the store is away."""
    try:
        yield
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        if is_outage(error):
            raise outage(where, path, error) from error
        raise CorruptError(f"cannot read {path}: {error}", where=where) from error
