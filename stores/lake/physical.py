"""Physical types: the form in which a file stores a column, reduced to the few that are converted differently.

Spark, pandas, Polars, DuckDB, Flink and Impala store one id in a dozen ways. `form_of` looks through dictionaries and
extension types and names the form; `stores.lake.cells` has one conversion for each form and kind of column.
"""

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa
import pyarrow.types as pat

DECIMAL_DIGITS = 38
"""DuckDB reads wider decimals as doubles, and wrongly."""
UUID_BYTES = 16


class Form(Enum):
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
class Stored:
    """A stored type: its form, the Arrow type behind dictionaries and extensions, and the element of a list."""

    form: Form
    type: pa.DataType

    @property
    def element(self) -> "Stored":
        """The elements of a list."""
        return form_of(self.type.value_type)


def form_of(stored: pa.DataType) -> Stored:
    """The form of an Arrow type."""
    if pat.is_dictionary(stored):
        return form_of(stored.value_type)
    if isinstance(stored, pa.BaseExtensionType):
        return _extension(stored)
    for form, matches in _TESTS:
        if any(test(stored) for test in matches):
            return Stored(form, stored)
    return Stored(Form.OTHER, stored)


def _extension(stored: pa.BaseExtensionType) -> Stored:
    uuid = stored.extension_name == "arrow.uuid"
    return Stored(Form.UUID, stored) if uuid else form_of(stored.storage_type)


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
    (Form.EMPTY, (pat.is_null,)),
    (Form.BOOL, (pat.is_boolean,)),
    (Form.WHOLE, (pat.is_integer,)),
    (Form.FLOAT, (pat.is_floating,)),
    (Form.DIGITS, (_is_wide,)),
    (Form.DECIMAL, (pat.is_decimal,)),
    (Form.TEXT, (pat.is_string, pat.is_large_string, pat.is_string_view)),
    (Form.FIXED, (pat.is_fixed_size_binary,)),
    (Form.BYTES, (pat.is_binary, pat.is_large_binary, pat.is_binary_view)),
    (Form.TIMESTAMP, (pat.is_timestamp,)),
    (Form.DATE, (pat.is_date,)),
    (Form.DURATION, (pat.is_duration,)),
    (Form.LIST, (is_list,)),
)
