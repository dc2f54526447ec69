"""Repair files that stop DuckDB: copy them with Arrow in plain types whose cells can be judged one by one.

DuckDB refuses a whole file for one byte that is not UTF-8 and for one date beyond its calendar, and misreads decimals
of more than 38 digits. Arrow reads all of these, so the cells are brought into forms in which `stores.lake.cells` can
judge each by itself. The fast reading does without: only files that stopped it are copied.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from stores.errors import StoreError
from stores.files.filesystem import Storage
from stores.files.object_store import is_outage, outage
from stores.lake.cells import PhysicalForm, StoredType, physical_form
from stores.lake.contract import Lake
from stores.lake.object_keys import open_input
from stores.lake.parquet_files import UNREADABLE, BrokenFile, LakeFile, broken_file, fault_of
from stores.lake.scan import file_source, lost_sql, rows_sql, sql_identifier
from stores.lake.tables import MEMBER_AND_TITLE, Column

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

BATCH_ROWS = 65_536
FIRST, LAST = -9_223_372_022_400_000_000, 9_223_372_036_854_775_806
"""The ends of DuckDB's calendar in microseconds since 1970; times beyond are moved there, so they stay impossible."""
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_MICROS_PER_DAY = 86_400_000_000
_DIGITS = pa.decimal256(76, 0)


def is_misread(stored: pa.DataType) -> bool:
    """Whether DuckDB reads a type without an error and wrongly."""
    source = physical_form(stored)
    while source.form is PhysicalForm.LIST:
        source = source.element
    return source.form is PhysicalForm.DIGITS


def to_plain(array: pa.Array) -> tuple[pa.Array, pa.DataType]:
    """An array in a form that DuckDB reads, and the type as which `cells` takes it.

    Texts become bytes, times microseconds within DuckDB's calendar, wide decimals their digits, and what no column
    takes (structs, maps, lists of lists) only says whether it is there.
    """
    if pat.is_dictionary(array.type):
        array = array.dictionary_decode()
    source = physical_form(array.type)
    if source.form is PhysicalForm.UUID:
        return _uuids(array), pa.string()
    if isinstance(array, pa.ExtensionArray):
        return to_plain(array.storage)
    if source.form is PhysicalForm.LIST:
        return _lists(array, source)
    if source.form is PhysicalForm.OTHER and pat.is_nested(array.type):
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


def _lists(array: pa.Array, source: StoredType) -> tuple[pa.Array, pa.DataType]:
    """A list with plain elements; lists of lists and of structs only say whether they are there."""
    if source.element.form in (PhysicalForm.LIST, PhysicalForm.OTHER):
        return _presence(array), array.type
    elements, kind = to_plain(array.flatten())  # no cast of the list: Arrow (26) makes list views invalid by it
    there = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.where(there, pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), 0)
    offsets = pa.array(np.append(0, np.cumsum(lengths, dtype=np.int64)))
    return pa.LargeListArray.from_arrays(offsets, elements, mask=pa.array(~there)), pa.large_list(kind)


_PLAIN = {
    PhysicalForm.TEXT: _bytes,
    PhysicalForm.BYTES: _bytes,
    PhysicalForm.DIGITS: _digits,
    PhysicalForm.TIMESTAMP: _timestamps,
    PhysicalForm.DATE: _dates,
    PhysicalForm.DURATION: _counts,
}


def to_plain_batch(batch: pa.RecordBatch | pa.Table) -> tuple[pa.Table, dict[str, pa.DataType]]:
    """A table's columns in forms that DuckDB reads, and the type as which each is taken."""
    made = {name: to_plain(_whole(batch.column(name))) for name in batch.schema.names}
    return pa.table({name: array for name, (array, _) in made.items()}), {
        name: kind for name, (_, kind) in made.items()
    }


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def readable(table: pa.Table) -> tuple[pa.Table, dict[str, pa.DataType]]:
    """A table in memory, its columns in plain forms where DuckDB might stop at them, and the type of each."""
    made = {name: to_plain(_whole(table[name])) for name in table.column_names if not _is_safe(table[name])}
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
                table, types = to_plain_batch(batch)
                writer = writer or pq.ParquetWriter(out, table.schema, store_schema=False)
                writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return types


T = TypeVar("T")
_STREAMED = ("Invalid Input Error", "Conversion Error", "Out of Range Error", "Serialization Error", "IO Error")
"""How DuckDB's errors begin that arrive as Arrow's while rows are streamed."""
_MEMORY = ("Out of Memory Error", "failed to allocate", "could not allocate")
_DISK = ("No space left", "max_temp_directory_size", "failed to offload")


def run_with_repair(connection: "Connection", lake: Lake, tables: tuple[str, ...], work: Callable[[Lake], T]) -> T:
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
        mended = repair_files(connection, sound, tables)
        if mended is sound:
            raise
        result = work(mended)
    lake.require_unchanged(tables)
    return result


def repair_files(connection: "Connection", lake: Lake, tables: tuple[str, ...]) -> Lake:
    """The lake with plain copies of the files that stop DuckDB, without those that nothing can read; reads all."""
    for table in tables:
        numbers = range(len(lake.tables[table].files))
        stopped = [number for number in numbers if _duckdb_fault(connection, lake, table, number)]
        lake = _with_copies(connection, lake, table, stopped) if stopped else lake
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
        lake = _with_copies(connection, lake, table, misread) if misread else lake
    return lake


def _with_copies(connection: "Connection", lake: Lake, table: str, numbers: list[int]) -> Lake:
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
        return broken_file(file, UNREADABLE, "", fault_of(lake.storage, file.path, error), file.rows)
    copied = replace(file, types={**file.types, **types}, copy=str(out))
    files = (*found.files[:number], copied, *found.files[number + 1 :])
    told = _duckdb_fault(connection, lake.with_files(table, files, found.broken), table, number)
    return broken_file(file, UNREADABLE, "", told, file.rows) if told else copied


def _duckdb_fault(connection: "Connection", lake: Lake, table: str, number: int) -> str:
    """What DuckDB says where it cannot read all cells of a file; empty where it can."""
    import duckdb

    found = lake.tables[table]
    source, ids = [file_source(lake, found, number)], {column: lake.id_type(column) for column in MEMBER_AND_TITLE}
    cells = ", ".join([*(sql_identifier(column.name) for column in found.contract), "wrong", "wrong_value"])
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
def translate_errors(lake: Lake) -> Iterator[None]:
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
