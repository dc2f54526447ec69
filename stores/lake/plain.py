"""Plain columns: Arrow arrays in those forms that DuckDB reads whatever the cells hold, and a copy of a file in them.

DuckDB refuses a whole file for one byte that is not UTF-8 and for one date beyond its calendar, and misreads decimals
of more than 38 digits. Arrow reads all of these, so the cells are brought into forms in which `stores.lake.cells` can
judge each by itself. The fast reading does without: only files that stopped it are copied.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from stores.lake.files import LakeFile
from stores.lake.object_keys import open_input
from stores.lake.physical import Form, Stored, form_of
from stores.lake.tables import Column
from stores.storage import Storage

BATCH_ROWS = 65_536
FIRST, LAST = -9_223_372_022_400_000_000, 9_223_372_036_854_775_806
"""The ends of DuckDB's calendar in microseconds since 1970; times beyond are moved there, so they stay impossible."""
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_MICROS_PER_DAY = 86_400_000_000
_DIGITS = pa.decimal256(76, 0)


def is_misread(stored: pa.DataType) -> bool:
    """Whether DuckDB reads a type without an error and wrongly."""
    source = form_of(stored)
    while source.form is Form.LIST:
        source = source.element
    return source.form is Form.DIGITS


def plain(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    """An array in a form that DuckDB reads, and the type as which `cells` takes it.

    Texts become bytes, times microseconds within DuckDB's calendar, wide decimals their digits, and what no column
    takes (structs, maps, lists of lists) only says whether it is there.
    """
    if pat.is_dictionary(array.type):
        array = array.dictionary_decode()
    source = form_of(array.type)
    if source.form is Form.UUID:
        return _uuids(array), pa.string()
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if source.form is Form.LIST:
        return _lists(array, source)
    if source.form is Form.OTHER and pat.is_nested(array.type):
        return _presence(array), array.type
    return _PLAIN.get(source.form, _same)(array)


def _same(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    narrow = pat.is_float16(array.type)
    return (array.cast(pa.float32()) if narrow else array), array.type


def _presence(array: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_valid(array), True, pa.scalar(None, pa.bool_()))


def _bytes(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    return array.cast(pa.large_binary()), pa.binary()


def _uuids(array: pa.Array) -> pa.Array:
    return pa.array([None if one is None else str(one) for one in array.to_pylist()], pa.string())


def _counts(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    """Durations as Parquet holds them; DuckDB would take Arrow's as intervals."""
    return array.view(pa.int64()), array.type


def _digits(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    """The digits of whole decimals; of others Arrow's own spelling, which no whole number has."""
    wide = array.cast(pa.decimal256(76, max(array.type.scale, 0)))
    floor = pc.floor(wide)
    whole = pc.equal(wide, floor)
    digits = pc.if_else(whole, floor, pa.scalar(None, floor.type)).cast(_DIGITS).cast(pa.string())
    return pc.if_else(whole, digits, wide.cast(pa.string())), array.type


def _timestamps(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    counts = array.cast(pa.timestamp(array.type.unit)).view(pa.int64())
    wanted = pa.timestamp("us", "UTC") if array.type.tz else pa.timestamp("us")
    if array.type.unit == "ns":
        micros = pc.divide(counts, 1_000)
        micros = pc.subtract(micros, pc.less(pc.multiply(micros, 1_000), 0).cast(pa.int64()))
    else:
        micros = _scaled(counts, _MICROS[array.type.unit])
    return micros.cast(wanted), wanted


def _dates(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    days = pat.is_date32(array.type)
    counts = (array.view(pa.int32()) if days else array.view(pa.int64())).cast(pa.int64())
    return _scaled(counts, _MICROS_PER_DAY if days else 1_000).cast(pa.timestamp("us")), pa.timestamp("us")


def _scaled(counts: pa.Array, factor: int) -> pa.Array:
    """Counts as microseconds, those beyond DuckDB's calendar moved to its end."""
    first, last = -(-FIRST // factor), LAST // factor
    return pc.multiply(pc.min_element_wise(pc.max_element_wise(counts, first), last), factor)


def _lists(array: pa.Array, source: Stored) -> tuple[pa.Array, pa.DataType]:
    """A list with plain elements; lists of lists and of structs only say whether they are there."""
    if source.element.form in (Form.LIST, Form.OTHER):
        return _presence(array), array.type
    elements, kind = plain(array.flatten())  # no cast of the list: Arrow (26) makes list views invalid by it
    there = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.where(there, pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), 0)
    offsets = pa.array(np.append(0, np.cumsum(lengths, dtype=np.int64)))
    return pa.LargeListArray.from_arrays(offsets, elements, mask=pa.array(~there)), pa.large_list(kind)


_PLAIN = {
    Form.TEXT: _bytes,
    Form.BYTES: _bytes,
    Form.DIGITS: _digits,
    Form.TIMESTAMP: _timestamps,
    Form.DATE: _dates,
    Form.DURATION: _counts,
}


def plain_batch(batch: pa.RecordBatch | pa.Table) -> tuple[pa.Table, dict[str, pa.DataType]]:
    """A table's columns in forms that DuckDB reads, and the type as which each is taken."""
    made = {name: plain(_whole(batch.column(name))) for name in batch.schema.names}
    return pa.table({name: array for name, (array, _) in made.items()}), {
        name: kind for name, (_, kind) in made.items()
    }


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def readable(table: pa.Table) -> tuple[pa.Table, dict[str, pa.DataType]]:
    """A table in memory, its columns in plain forms where DuckDB might stop at them, and the type of each."""
    made = {name: plain(_whole(table[name])) for name in table.column_names if not _is_safe(table[name])}
    types = {name: made[name][1] if name in made else table[name].type for name in table.column_names}
    return pa.table({name: made[name][0] if name in made else table[name] for name in table.column_names}), types


def _is_safe(column: pa.ChunkedArray) -> bool:
    if pat.is_timestamp(column.type):
        return bool(column.type.unit == "us")
    if pat.is_string(column.type) or column.type == pa.list_(pa.string()):
        return _is_valid(column)
    numbers = pat.is_integer(column.type) or pat.is_float64(column.type) or pat.is_float32(column.type)
    return numbers or column.type in (pa.bool_(), pa.list_(pa.float32()), pa.list_(pa.float64()))


def _is_valid(column: pa.ChunkedArray) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def copy_file(storage: Storage, file: LakeFile, contract: tuple[Column, ...], out: Path) -> dict[str, pa.DataType]:
    """Write the contract's columns of a file in plain forms to `out`, row for row; returns the type of each.

    Raises OSError or pa.ArrowException where Arrow cannot read the file either.
    """
    wanted = [column.name for column in contract if column.name in file.types]
    types: dict[str, pa.DataType] = {}
    writer: pq.ParquetWriter | None = None
    try:
        with open_input(storage, file.path) as stream:
            parquet = pq.ParquetFile(stream, coerce_int96_timestamp_unit="us")
            for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted):
                table, types = plain_batch(batch)
                writer = writer or pq.ParquetWriter(out, table.schema, store_schema=False)
                writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return types
