"""Convert stored cells: the physical types of Parquet columns, and DuckDB's SQL that brings each to the contract's
type.

Spark, pandas, Polars, DuckDB, Flink and Impala store one id in a dozen ways. `physical_form` looks through dictionaries
and extension types and names the form; `stores.lake.cells` has one conversion for each form and kind of column.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import pyarrow as pa
import pyarrow.types as pat

from stores.lake.tables import Column, Kind

DECIMAL_DIGITS = 38
"""DuckDB reads wider decimals as doubles, and wrongly."""
UUID_BYTES = 16


class PhysicalForm(Enum):
    """How cells are stored, as far as their conversion differs."""

    EMPTY = "null"
    BOOL = "bool"
    WHOLE = "whole number"
    FLOAT = "floating point"
    DECIMAL = "decimal"
    DIGITS = "decimal of more than 38 digits"
    TEXT = "text"
    BYTES = "bytes"
    FIXED = "bytes of fixed width"
    UUID = "UUID"
    TIMESTAMP = "timestamp"
    DATE = "date"
    DURATION = "duration"
    LIST = "list"
    OTHER = "another type"


@dataclass(frozen=True)
class StoredType:
    """A stored type: its form, the Arrow type behind dictionaries and extensions, and the element of a list."""

    form: PhysicalForm
    type: pa.DataType

    @property
    def element(self) -> "StoredType":
        """The elements of a list."""
        return physical_form(self.type.value_type)


def physical_form(stored: pa.DataType) -> StoredType:
    """The form of an Arrow type."""
    if pat.is_dictionary(stored):
        return physical_form(stored.value_type)
    if isinstance(stored, pa.BaseExtensionType):
        return _extension(stored)
    for form, matches in _TESTS:
        if any(test(stored) for test in matches):
            return StoredType(form, stored)
    return StoredType(PhysicalForm.OTHER, stored)


def _extension(stored: pa.BaseExtensionType) -> StoredType:
    uuid = stored.extension_name == "arrow.uuid"
    return StoredType(PhysicalForm.UUID, stored) if uuid else physical_form(stored.storage_type)


def is_list(stored: pa.DataType) -> bool:
    """Whether a type is a list of any layout."""
    tests = (pat.is_list, pat.is_large_list, pat.is_fixed_size_list, pat.is_list_view, pat.is_large_list_view)
    return any(test(stored) for test in tests)


def _is_wide(stored: pa.DataType) -> bool:
    return bool(pat.is_decimal(stored)) and (stored.precision > DECIMAL_DIGITS or stored.scale < 0)


def is_exact_below(stored: pa.DataType) -> int:
    """The whole number up to which a floating-point type holds each one: 2^53 for float64, 2^24, 2^11."""
    return 1 << {16: 11, 32: 24}.get(stored.bit_width, 53)


_TESTS = (
    (PhysicalForm.EMPTY, (pat.is_null,)),
    (PhysicalForm.BOOL, (pat.is_boolean,)),
    (PhysicalForm.WHOLE, (pat.is_integer,)),
    (PhysicalForm.FLOAT, (pat.is_floating,)),
    (PhysicalForm.DIGITS, (_is_wide,)),
    (PhysicalForm.DECIMAL, (pat.is_decimal,)),
    (PhysicalForm.TEXT, (pat.is_string, pat.is_large_string, pat.is_string_view)),
    (PhysicalForm.FIXED, (pat.is_fixed_size_binary,)),
    (PhysicalForm.BYTES, (pat.is_binary, pat.is_large_binary, pat.is_binary_view)),
    (PhysicalForm.TIMESTAMP, (pat.is_timestamp,)),
    (PhysicalForm.DATE, (pat.is_date,)),
    (PhysicalForm.DURATION, (pat.is_duration,)),
    (PhysicalForm.LIST, (is_list,)),
)


MAX_ID = 3.4028234663852886e38
"""The largest float32: numbers beyond it would be infinite to a model."""
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TYPES = {
    Kind.TIME: "BIGINT",
    Kind.INTEGER: "BIGINT",
    Kind.NUMBER: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.TEXTS: "VARCHAR[]",
    Kind.NUMBERS: "FLOAT[]",
}
_REFUSED = "CAST(NULL AS {wanted})"


@dataclass(frozen=True)
class Cell:
    """SQL of one cell of a column.

    `value` is of the contract's type, NULL where there is none. `wrong` is true where the cell is there and refuses
    its row, `lost` where it is there and taken as missing; "" where that cannot be. `shown` is the cell as text.
    """

    value: str
    wrong: str = ""
    lost: str = ""
    shown: str = "CAST(NULL AS VARCHAR)"


def sql_type(kind: Kind, id_type: pa.DataType) -> str:
    """The SQL type that holds a contract column; times are microseconds since 1970."""
    if kind is Kind.ID:
        return "BIGINT" if pat.is_integer(id_type) else "VARCHAR"
    return _TYPES[kind]


def cell_of(column: Column, stored: pa.DataType, id_type: pa.DataType, cell: str) -> Cell:
    """The SQL for a column that a file stores as `stored`; `cell` is SQL that names the stored cell."""
    source, wanted = physical_form(stored), sql_type(column.kind, id_type)
    if source.form is PhysicalForm.EMPTY:
        return Cell(_REFUSED.format(wanted=wanted))
    made = _CONVERSIONS[column.kind](source, cell, wanted)
    if made is None:
        made = Cell(_REFUSED.format(wanted=wanted), wrong=_there(source, cell))
    elif made.lost and column.required:
        made = replace(made, wrong=made.lost, lost="")
    return replace(made, shown=_shown(source, cell))


def _there(source: StoredType, cell: str) -> str:
    """Whether a cell is there: one that is not finite is missing."""
    return f"isfinite({cell})" if source.form is PhysicalForm.FLOAT else f"{cell} IS NOT NULL"


def _shown(source: StoredType, cell: str) -> str:
    """A cell as text; of nested ones the type says more than the content, which may be large."""
    if source.form in (PhysicalForm.LIST, PhysicalForm.OTHER) and pat.is_nested(source.type):
        return f"'a {str(source.type).replace(chr(39), '')}'"
    return f"TRY(CAST({cell} AS VARCHAR))"


def _or_wrong(source: StoredType, cell: str, value: str) -> Cell:
    return Cell(value, wrong=f"{_there(source, cell)} AND ({value}) IS NULL")


def _or_lost(source: StoredType, cell: str, value: str) -> Cell:
    return Cell(value, lost=f"{_there(source, cell)} AND ({value}) IS NULL")


# --- ids and texts


def _id(source: StoredType, cell: str, wanted: str) -> Cell | None:
    if source.form is PhysicalForm.BOOL:
        return None
    if wanted == "BIGINT":
        return _whole_id(source, cell)
    made = _text(source, cell)
    return None if made is None else replace(made, wrong=made.wrong or made.lost, lost="")


def _whole_id(source: StoredType, cell: str) -> Cell | None:
    """An id as int64: texts only where they are spelt as the number is, so that no two of them become one."""
    spelt = _spelling(source, cell)
    if spelt is None:
        return _whole(source, cell, "BIGINT")
    number = f"TRY_CAST({spelt} AS BIGINT)"
    return _or_wrong(source, cell, f"CASE WHEN CAST({number} AS VARCHAR) = {spelt} THEN {number} END")


def _text(source: StoredType, cell: str, _: str = "VARCHAR") -> Cell | None:
    """A text: itself, UTF-8 bytes, or the digits of a whole number."""
    if source.form is PhysicalForm.TEXT:
        return Cell(cell)
    if source.form in (PhysicalForm.BOOL, PhysicalForm.UUID):
        return Cell(f"CAST({cell} AS VARCHAR)")
    if source.form in (PhysicalForm.BYTES, PhysicalForm.FIXED):
        return _or_lost(source, cell, _spelling(source, cell) or "")
    if source.form is PhysicalForm.WHOLE:
        return Cell(f"CAST({cell} AS VARCHAR)")
    digits = _digits(source, cell)
    return None if digits is None else _or_wrong(source, cell, digits)


def _digits(source: StoredType, cell: str) -> str | None:
    """The decimal digits of a whole number that is stored as something else, NULL for any other number."""
    if source.form is PhysicalForm.FLOAT:
        return f"CAST({_whole_float(source, cell)} AS VARCHAR)"
    if source.form is PhysicalForm.DECIMAL:
        return f"CASE WHEN {cell} = floor({cell}) THEN CAST(floor({cell}) AS VARCHAR) END"
    return (
        f"CASE WHEN regexp_full_match({cell}, '-?[0-9]+') THEN {cell} END"
        if source.form is PhysicalForm.DIGITS
        else None
    )


def _spelling(source: StoredType, cell: str) -> str | None:
    """The text that text, bytes and bytes of fixed width spell, NULL where they are not UTF-8; None for other forms.

    Sixteen bytes are a UUID (RFC 9562 gives each a byte that is not ASCII), unless all are printable ASCII. Where they
    might be text in another script they are refused.
    """
    if source.form is PhysicalForm.TEXT:
        return cell
    decoded = f"TRY(decode({cell}))"
    if source.form is PhysicalForm.BYTES:
        return decoded
    if source.form is not PhysicalForm.FIXED:
        return None
    padded = f"rtrim({decoded}, chr(0))"
    if source.type.byte_width != UUID_BYTES:
        return padded
    uuid = f"regexp_replace(lower(hex({cell})), '^(.{{8}})(.{{4}})(.{{4}})(.{{4}})(.{{12}})$', '\\1-\\2-\\3-\\4-\\5')"
    return (
        f"CASE WHEN regexp_full_match({padded}, '[ -~]+') THEN {padded} "
        f"WHEN regexp_full_match({padded}, '[^\\x00-\\x1f\\x7f]+') THEN NULL ELSE {uuid} END"
    )


# --- numbers


def _whole_float(source: StoredType, cell: str) -> str:
    """A whole number; DuckDB's own casts would round 1.5 to 2, and 2^53 and 2^53 + 1 are the same float64."""
    limit = is_exact_below(source.type)
    return f"CASE WHEN abs({cell}) < {limit} AND {cell} = floor({cell}) THEN CAST({cell} AS BIGINT) END"


def _whole(source: StoredType, cell: str, wanted: str) -> Cell | None:
    if source.form is PhysicalForm.WHOLE:
        value = f"TRY_CAST({cell} AS {wanted})"
        return _or_wrong(source, cell, value) if pat.is_uint64(source.type) else Cell(value)
    if source.form is PhysicalForm.FLOAT:
        return _or_wrong(source, cell, _whole_float(source, cell))
    if source.form is PhysicalForm.DECIMAL:
        value = f"CASE WHEN {cell} = floor({cell}) THEN TRY_CAST(floor({cell}) AS {wanted}) END"
        return _or_wrong(source, cell, value)
    spelt = cell if source.form is PhysicalForm.DIGITS else _spelling(source, cell)
    if spelt is None:
        return None
    value = f"CASE WHEN regexp_full_match({spelt}, '[+-]?[0-9]+') THEN TRY_CAST({spelt} AS {wanted}) END"
    return _or_wrong(source, cell, value)


def _number(source: StoredType, cell: str, wanted: str) -> Cell | None:
    if source.form in (PhysicalForm.WHOLE, PhysicalForm.DECIMAL):
        return Cell(f"CAST({cell} AS {wanted})")
    if source.form is PhysicalForm.FLOAT:
        return Cell(f"CASE WHEN abs({cell}) <= {MAX_ID} THEN CAST({cell} AS {wanted}) END")
    if source.form is PhysicalForm.DURATION:
        return Cell(f"CAST({cell} AS {wanted}) / {_UNITS[source.type.unit]}")
    spelt = cell if source.form is PhysicalForm.DIGITS else _spelling(source, cell)
    if spelt is None:
        return None
    number = f"TRY_CAST({spelt} AS {wanted})"
    known = f"coalesce({number} IS NOT NULL AND NOT contains({spelt}, '_'), false)"  # DuckDB takes 1_000 as a number
    value = f"CASE WHEN {known} AND abs({number}) <= {MAX_ID} THEN {number} END"
    return Cell(value, wrong=f"{cell} IS NOT NULL AND NOT {known}")


# --- times


def _time(source: StoredType, cell: str, _: str) -> Cell | None:
    if source.form in (PhysicalForm.TIMESTAMP, PhysicalForm.DATE):
        # Of infinite times epoch_us makes NULL, while DuckDB concludes from Parquet's statistics that none is NULL.
        return Cell(f"CASE WHEN isfinite({cell}) THEN epoch_us({cell}) END")
    spelt = _spelling(source, cell)
    if spelt is None:
        return None  # a bare number does not say whether it counts seconds or nanoseconds
    moment = f"TRY_CAST({spelt} AS TIMESTAMPTZ)"
    return _or_lost(source, cell, f"CASE WHEN isfinite({moment}) THEN epoch_us({moment}) END")


# --- lists


def _texts(source: StoredType, cell: str, wanted: str) -> Cell | None:
    """A list of texts; an element that cannot be read is a missing one."""
    if source.form is not PhysicalForm.LIST:
        return None
    element = source.element
    if element.form is PhysicalForm.TEXT:
        return Cell(cell)
    if element.form is PhysicalForm.EMPTY:
        return Cell(f"TRY_CAST({cell} AS {wanted})")
    made = _text(element, "x")
    if made is None or element.form is PhysicalForm.BOOL:
        return None
    fault = made.wrong or made.lost
    lost = f"len(list_filter({cell}, lambda x: {fault})) > 0" if fault else ""
    return Cell(f"list_transform({cell}, lambda x: {made.value})", lost=lost)


def _numbers(source: StoredType, cell: str, wanted: str) -> Cell | None:
    """A list of float32 as it is stored; the catalogue judges which can be a title's content vector."""
    if source.form is not PhysicalForm.LIST:
        return None
    form = source.element.form
    if form is PhysicalForm.BYTES:
        return Cell(f"TRY_CAST(list_transform({cell}, lambda x: TRY(decode(x))) AS {wanted})")
    known = (
        PhysicalForm.WHOLE,
        PhysicalForm.FLOAT,
        PhysicalForm.DECIMAL,
        PhysicalForm.DIGITS,
        PhysicalForm.TEXT,
        PhysicalForm.EMPTY,
    )
    return Cell(f"TRY_CAST({cell} AS {wanted})") if form in known else None


_CONVERSIONS: dict[Kind, Callable[[StoredType, str, str], Cell | None]] = {
    Kind.ID: _id,
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.INTEGER: _whole,
    Kind.TIME: _time,
    Kind.TEXTS: _texts,
    Kind.NUMBERS: _numbers,
}
