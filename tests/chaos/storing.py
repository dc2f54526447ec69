"""Every physical form in which a writer may store a column of the contract, and cells that are bad in each.

`FORMS` stores right values: a `Form` makes an Arrow array of Python values. `CELLS` stores a column that is right
but for one cell. Both are by the kind of column; times are microseconds since 1970 in Python.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from stores.lake.tables import Kind

Values = list[Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
INT64 = pa.int64()
LARGEST_INT, SMALLEST_INT = 2**63 - 1, -(2**63)


@dataclass(frozen=True)
class Form:
    """One way to store a column. `certain` forms must be read; any other one may be refused cell by cell."""

    name: str
    make: Callable[[Values], pa.Array]
    certain: bool = True


def _cast(kind: pa.DataType) -> Callable[[Values], pa.Array]:
    return lambda values: pa.array(values, kind)


def _as(convert: Callable[[Any], Any], kind: pa.DataType) -> Callable[[Values], pa.Array]:
    return lambda values: pa.array([None if value is None else convert(value) for value in values], kind)


def _dictionary(index: pa.DataType, kind: pa.DataType, convert: Callable[[Any], Any] = lambda value: value) -> Any:
    def make(values: Values) -> pa.Array:
        plain = pa.array([None if value is None else convert(value) for value in values], kind)
        return plain.dictionary_encode().cast(pa.dictionary(index, kind))

    return make


def view(kind: pa.DataType, of: pa.DataType = INT64, each: int = 1) -> Callable[[Values], pa.Array]:
    """Whole numbers, divided by `each`, as the bits of another type."""
    return lambda values: pa.array([None if v is None else v // each for v in values], of).view(kind)


def moment(micros: int) -> datetime:
    """A time of the calendar from microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)


def _iso(text: str) -> Callable[[int], str]:
    return lambda micros: moment(micros).strftime(text)


def _uuid(value: int) -> bytes:
    return bytes(8) + struct.pack(">Q", value)


WHOLE_IDS = (
    *(Form(str(kind), _cast(kind)) for kind in (pa.int16(), pa.int32(), pa.int64())),
    *(Form(str(kind), _cast(kind)) for kind in (pa.uint16(), pa.uint32(), pa.uint64())),
    Form("float64", _as(float, pa.float64())),
    Form("float32", _as(float, pa.float32())),
    Form("decimal(20,0)", _as(Decimal, pa.decimal128(20, 0))),
    Form("decimal(20,2)", _as(Decimal, pa.decimal128(20, 2))),
    Form("decimal(9,0)", _as(Decimal, pa.decimal128(9, 0))),
    Form("decimal256(50,0)", _as(Decimal, pa.decimal256(50, 0)), certain=False),
    Form("dictionary of int64", _dictionary(pa.int32(), pa.int64())),
    *(Form(f"digits as {kind}", _as(str, kind)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    Form("digits as a dictionary", _dictionary(pa.int8(), pa.string(), str)),
    Form("digits as bytes", _as(lambda value: str(value).encode(), pa.binary()), certain=False),
)
TEXT_IDS = (
    *(Form(str(kind), _cast(kind)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *(
        Form(f"dictionary by {index}", _dictionary(index, pa.string()))
        for index in (pa.int8(), pa.int32(), pa.uint16())
    ),
    Form("dictionary of large strings", _dictionary(pa.int32(), pa.large_string())),
    Form("bytes", _as(lambda value: value.encode(), pa.binary()), certain=False),
    Form("large bytes", _as(lambda value: value.encode(), pa.large_binary()), certain=False),
    Form("byte view", _as(lambda value: value.encode(), pa.binary_view()), certain=False),
)
_MICROS = {"us": 1, "ms": 1000, "s": 10**6}
"""Microseconds in a unit."""


def _nanoseconds(values: Values, zone: str | None) -> pa.Array:
    return pa.array(values, pa.timestamp("us", zone)).cast(pa.timestamp("ns", zone))


TIMES = (
    *(Form(f"timestamp[{unit}, UTC]", view(pa.timestamp(unit, "UTC"), each=each)) for unit, each in _MICROS.items()),
    Form("timestamp[ns, UTC]", lambda values: _nanoseconds(values, "UTC")),
    Form("timestamp[us]", view(pa.timestamp("us"))),
    Form("timestamp[ns]", lambda values: _nanoseconds(values, None)),
    Form("timestamp[us, New York]", view(pa.timestamp("us", "America/New_York"))),
    Form("timestamp[ms, +05:30]", view(pa.timestamp("ms", "+05:30"), each=1000)),
    Form("date32", view(pa.date32(), pa.int32(), DAY)),
    Form("date64", view(pa.date64(), each=1000)),
    Form("ISO text", _as(_iso("%Y-%m-%dT%H:%M:%SZ"), pa.string())),
    Form("ISO text without a zone", _as(_iso("%Y-%m-%d %H:%M:%S"), pa.string())),
    Form("ISO text with an offset", _as(_iso("%Y-%m-%d %H:%M:%S+00"), pa.large_string())),
    Form("ISO text in a dictionary", _dictionary(pa.int32(), pa.string(), _iso("%Y-%m-%dT%H:%M:%S+00:00"))),
    Form("seconds as a number", _as(lambda value: value // 10**6, pa.int64()), certain=False),
    Form("milliseconds as a float", _as(lambda value: value / 1000, pa.float64()), certain=False),
)  # fmt: skip
TEXTS_ = (*TEXT_IDS,)


def _duration(unit: str) -> Callable[[Values], pa.Array]:
    return _as(lambda seconds: int(seconds) * _PER_SECOND[unit], pa.duration(unit))


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NUMBERS_ = (
    *(Form(str(kind), _as(float, kind)) for kind in (pa.float64(), pa.float32(), pa.float16())),
    *(Form(str(kind), _as(int, kind)) for kind in (pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint64())),
    Form("decimal(10,2)", _as(Decimal, pa.decimal128(10, 2))),
    Form("decimal(38,10)", _as(Decimal, pa.decimal128(38, 10))),
    Form("decimal256(60,2)", _as(Decimal, pa.decimal256(60, 2)), certain=False),
    Form("dictionary of doubles", _dictionary(pa.int32(), pa.float64(), float)),
    Form("text", _as(str, pa.string())),
    *(Form(f"duration[{unit}]", _duration(unit), certain=False) for unit in ("s", "ms", "us", "ns")),
)  # fmt: skip
WHOLES = (
    *(Form(str(kind), _as(int, kind)) for kind in (pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64())),
    Form("float64", _as(float, pa.float64())),
    Form("decimal(5,0)", _as(Decimal, pa.decimal128(5, 0))),
    Form("text", _as(str, pa.string())),
)
_LIST, _CODED = pa.list_(pa.string()), pa.list_(pa.dictionary(pa.int32(), pa.string()))
_STRUCTS, _POINTS = (pa.list_(pa.struct([(name, kind)])) for name, kind in (("name", pa.string()), ("x", pa.float32())))
LISTS_OF_TEXT = (
    *(Form(f"list<{kind}>", _cast(pa.list_(kind))) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    Form("large list", _cast(pa.large_list(pa.string()))),
    Form("list of a dictionary", lambda values: pa.array(values, _LIST).cast(_CODED)),
    Form("list of bytes", _as(lambda names: [name.encode() for name in names], pa.list_(pa.binary())), certain=False),
    Form("list of structs", _as(lambda names: [{"name": name} for name in names], _STRUCTS), certain=False),
    Form("text with bars", _as("|".join, pa.string()), certain=False),
)  # fmt: skip
LISTS_OF_NUMBERS = (
    *(Form(f"list<{kind}>", _cast(pa.list_(kind))) for kind in (pa.float32(), pa.float64())),
    Form("list<halffloat>", lambda values: pa.array(values, pa.list_(pa.float32())).cast(pa.list_(pa.float16()))),
    Form("list<int64>", _as(lambda row: [int(x) for x in row], pa.list_(pa.int64()))),
    Form("large list", _cast(pa.large_list(pa.float32()))),
    Form("list of fixed size", lambda values: _fixed_size(values)),
    Form("list of decimals", _as(lambda row: [Decimal(x) for x in row], pa.list_(pa.decimal128(10, 2)))),
    Form("list of structs", _as(lambda row: [{"x": x} for x in row], _POINTS), certain=False),
    Form("text", _as(str, pa.string()), certain=False),
)  # fmt: skip


def _fixed_size(values: Values) -> pa.Array:
    """A list of fixed size, or an ordinary one where the lengths differ."""
    lengths = {len(value) for value in values if value is not None}
    return pa.array(values, pa.list_(pa.float32(), lengths.pop()) if len(lengths) == 1 else pa.list_(pa.float32()))


FORMS: dict[Kind, tuple[Form, ...]] = {
    Kind.TIME: TIMES,
    Kind.TEXT: TEXTS_,
    Kind.NUMBER: NUMBERS_,
    Kind.INTEGER: WHOLES,
    Kind.TEXTS: LISTS_OF_TEXT,
    Kind.NUMBERS: LISTS_OF_NUMBERS,
}
"""Forms of every kind but ids, whose forms depend on whether the lake's ids are numbers or text."""


def id_forms(text: bool) -> tuple[Form, ...]:
    """The forms of an id column of a lake."""
    return TEXT_IDS if text else WHOLE_IDS


# --- one bad cell


@dataclass(frozen=True)
class BadCell:
    """A column that is right but for the cell at a place. `refused` cells cost their row, others may be missing."""

    name: str
    make: Callable[[Values, int], pa.Array]
    refused: bool = True


def with_bytes(kind: pa.DataType, raw: bytes) -> Callable[[Values, int], pa.Array]:
    """Texts of a kind, with bytes at one place that need not be UTF-8."""

    def make(values: Values, at: int) -> pa.Array:
        cells = [raw if place == at else None if v is None else str(v).encode() for place, v in enumerate(values)]
        store = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        plain = pa.array(cells, store)
        if pa.types.is_dictionary(kind):
            coded = plain.dictionary_encode()
            texts = _relabelled(coded.dictionary, pa.string())
            return pa.DictionaryArray.from_arrays(coded.indices, texts, safe=False)
        return _relabelled(plain, kind)

    return make


def _relabelled(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(array), array.buffers(), array.null_count)


def put(form: Callable[[Values], pa.Array], value: Any) -> Callable[[Values, int], pa.Array]:
    """Store a column in a form, with another value at one place."""
    return lambda values, at: form([value if place == at else v for place, v in enumerate(values)])


def _text(value: str) -> Callable[[Values, int], pa.Array]:
    return put(lambda values: pa.array([None if v is None else str(v) for v in values], pa.string()), value)


LATIN = b"pl\xe9y"
NOT_UTF8 = tuple(
    (f"bytes that are not UTF-8 as {kind}", with_bytes(kind, LATIN))
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
)
NULL_ID = (BadCell("null", put(lambda values: pa.array(values), None)),)
_NAN, _INF = float("nan"), float("inf")
_NO_IDS = (1.5, _NAN, _INF, -_INF, 2.0**53, 2.0**53 + 2, 1e300)
_NO_ID_TEXTS = ("x", "", " ", "1e3", "0x7", "1,000", "7.5", "9" * 30, "NaN")
WHOLE_ID_CELLS = (
    *NULL_ID,
    *(BadCell(f"{value} as float64", put(_as(float, pa.float64()), value)) for value in _NO_IDS),
    BadCell("2^24 + 2 as float32", put(_as(float, pa.float32()), float(2**24 + 2))),
    BadCell("1.50 as decimal", put(_as(Decimal, pa.decimal128(20, 2)), Decimal("1.50"))),
    BadCell("2^63 as uint64", put(_cast(pa.uint64()), 2**63)),
    BadCell("10^30 as decimal", put(_as(Decimal, pa.decimal128(38, 0)), Decimal(10**30))),
    *(BadCell(f"{value!r} as text", _text(value)) for value in _NO_ID_TEXTS),
    *(BadCell(name, make) for name, make in NOT_UTF8),
)  # fmt: skip
TEXT_ID_CELLS = (*NULL_ID, *(BadCell(name, make) for name, make in NOT_UTF8))

_OUT_OF_RANGE = {
    "us": (SMALLEST_INT, LARGEST_INT, SMALLEST_INT + 1),
    "ms": (SMALLEST_INT, LARGEST_INT),
    "s": (SMALLEST_INT, LARGEST_INT),
    "ns": (SMALLEST_INT, LARGEST_INT, SMALLEST_INT + 1),
}
YEARS = {"0001-01-01": -62135596800, "1601-01-01": -11644473600, "9999-12-31": 253402214400, "1970-01-01": 0,
         "2300-01-01": 10413792000, "year 200000": 6249223987200}  # fmt: skip


def _stamps(unit: str, zone: str | None, bad: int) -> Callable[[Values, int], pa.Array]:
    each = 10**6 // _PER_SECOND[unit] if unit != "ns" else 1

    def make(values: Values, at: int) -> pa.Array:
        numbers = [None if v is None else v * 1000 if unit == "ns" else v // each for v in values]
        numbers[at] = bad
        return pa.array(numbers, pa.int64()).view(pa.timestamp(unit, zone))

    return make


_NO_TIMES = ("yesterday", "", "2024-13-45", "31/12/2023", "infinity")


def time_cells() -> tuple[BadCell, ...]:
    """Times that cannot be true, in every unit that can hold them."""
    cells = [BadCell("null", put(view(pa.timestamp("us", "UTC")), None))]
    for unit, extremes in _OUT_OF_RANGE.items():
        for zone in ("UTC", None):
            cells += [
                BadCell(f"{value} as timestamp[{unit}, {zone}]", _stamps(unit, zone, value)) for value in extremes
            ]
    for days in (-(2**31), 2**31 - 1, -719162, 2932896):
        cells.append(BadCell(f"day {days}", _days(days)))
    cells += [
        BadCell(f"{text!r} as text", _iso_text(text))
        for text in ("yesterday", "", "2024-13-45", "31/12/2023", "infinity")
    ]
    return tuple(cells)


def _days(bad: int) -> Callable[[Values, int], pa.Array]:
    def make(values: Values, at: int) -> pa.Array:
        if not whole_days(values):
            raise ValueError("a date holds whole days")
        days = [None if v is None else v // DAY for v in values]
        days[at] = bad
        return pa.array(days, pa.int32()).view(pa.date32())

    return make


def _iso_text(bad: str) -> Callable[[Values, int], pa.Array]:
    texts = _iso("%Y-%m-%dT%H:%M:%SZ")
    return lambda values, at: pa.array(
        [bad if place == at else None if v is None else texts(v) for place, v in enumerate(values)], pa.string()
    )


def _number_cells(lowest_refused: bool) -> tuple[BadCell, ...]:
    strange = (float("nan"), float("inf"), -float("inf"))
    found = [
        BadCell(f"{x} as {kind}", put(_as(float, kind), x), False)
        for x in strange
        for kind in (pa.float64(), pa.float32(), pa.float16())
    ]
    found += [BadCell(f"{text!r} as text", _text(text), False) for text in ("abc", "", "NaN", "inf", "1e999", "12:30")]
    found += [BadCell("1e300", put(_as(float, pa.float64()), 1e300), False)]
    found += [BadCell(name, make, False) for name, make in NOT_UTF8]
    if lowest_refused:
        found += [BadCell(f"-5 as {kind}", put(_as(float, kind), -5)) for kind in (pa.float64(), pa.float32())]
        found += [
            BadCell("-5 as decimal", put(_as(Decimal, pa.decimal128(10, 2)), -5)),
            BadCell("-5 as text", _text("-5")),
        ]
    return tuple(found)


def _list_of(raw: list[bytes | None]) -> Callable[[Values, int], pa.Array]:
    """Lists of texts, with bytes in one list that need not be UTF-8."""

    def make(values: Values, at: int) -> pa.Array:
        rows = [raw if place == at else [] if v is None else [x.encode() for x in v] for place, v in enumerate(values)]
        plain = pa.array(rows, pa.list_(pa.binary()))
        return pa.ListArray.from_arrays(plain.offsets, _relabelled(plain.values, pa.string()))

    return make


def _vector(value: Any, kind: pa.DataType) -> Callable[[Values, int], pa.Array]:
    return put(_cast(pa.list_(kind)), value)


_LISTS = {
    "a byte that is not UTF-8": [LATIN],
    "one among others": [b"Drama", LATIN],
    "null in a list": [None],
    "an empty list": [],
}
_VECTORS: tuple[list[float | None] | None, ...] = (
    [],
    [_NAN, 1.0, 2.0],
    [_INF, 1.0, 2.0],
    [1.0],
    [1.0] * 9,
    [None, 1.0, 2.0],
    [None] * 3,
    [1e300, 0.0, 0.0],
    None,
)
CELLS: dict[Kind, tuple[BadCell, ...]] = {
    Kind.TIME: time_cells(),
    Kind.TEXT: tuple(BadCell(name, make, False) for name, make in NOT_UTF8),
    Kind.NUMBER: _number_cells(lowest_refused=False),
    Kind.INTEGER: (
        *(BadCell(f"{x} as float64", put(_as(float, pa.float64()), x), False) for x in (1.5, _NAN, _INF, 1e300)),
        BadCell("2^63 as uint64", put(_cast(pa.uint64()), 2**63), False),
        *(BadCell(f"{text!r} as text", _text(text), False) for text in ("x", "", "1.5", "9" * 30)),
        *(BadCell(name, make, False) for name, make in NOT_UTF8),
    ),
    Kind.TEXTS: (
        *(BadCell(name, _list_of(raw), False) for name, raw in _LISTS.items()),
    ),
    Kind.NUMBERS: tuple(
        BadCell(f"{value} as list<{kind}>", _vector(value, kind), False)
        for kind in (pa.float32(), pa.float64())
        for value in _VECTORS
    ),
}  # fmt: skip
NULL_TEXT = BadCell("null", put(_cast(pa.string()), None))
ACTION_CELLS = (
    NULL_TEXT,
    *(BadCell(f"action {value!r}", _text(value)) for value in ("juggle", "", "PLAY", " play")),
    *(BadCell(name, make) for name, make in NOT_UTF8),
)
DURATION_CELLS = _number_cells(lowest_refused=True)


def id_cells(text: bool) -> tuple[BadCell, ...]:
    """Bad ids of a lake whose ids are numbers, or text."""
    return TEXT_ID_CELLS if text else WHOLE_ID_CELLS


# --- how files are written

UNTYPED = "no Arrow schema"
"""Written so, a duration is a number without a unit: there is no right value of it."""
WRITINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "version 1.0": {"version": "1.0"},
    "INT96": {"use_deprecated_int96_timestamps": True},
    "data pages 2.0": {"data_page_version": "2.0"},
    "no dictionaries": {"use_dictionary": False, "compression": "none"},
    "zstd": {"compression": "zstd"},
    "gzip": {"compression": "gzip"},
    "small row groups": {"row_group_size": 3},
    "small pages": {"data_page_size": 64, "write_statistics": False},
    UNTYPED: {"store_schema": False},
    "checksums": {"write_page_checksum": True},
    "page index": {"write_page_index": True},
    "flavour of Spark": {"flavor": "spark"},
}


def whole_days(values: Values) -> bool:
    """Whether times can be stored as dates."""
    return all(value is None or value % DAY == 0 for value in values)


def is_date(form: Form) -> bool:
    """Whether a form of times holds whole days only."""
    return form.name.startswith("date")


def fits(form: Form, values: Values) -> bool:
    """Whether a form can hold these values."""
    if is_date(form) and not whole_days(values):
        return False
    try:
        form.make(values)
    except (pa.ArrowException, OverflowError, ValueError):
        return False
    return True
