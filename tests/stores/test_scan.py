"""DuckDB is opened only where it will not take the process down; an id is the same in whatever form it is stored."""

import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.errors import StoreError
from stores.files.filesystem import Storage
from stores.lake.cells import cell_of
from stores.lake.file_listing import FoundFile
from stores.lake.parquet_files import read_footers
from stores.lake.repair import copy_file, is_misread, readable
from stores.lake.scan import ScanConfig, connect
from stores.lake.tables import TABLES, Column, Kind
from tests.chaos.damage import fuzz

EXACT = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
KINDS = [pa.int64(), pa.string()]


def test_a_current_directory_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreError, match="directory was removed"), connect(None, ScanConfig()):
        pass


# --- one id, many forms


def forms(number: int) -> dict[str, pa.Array]:
    """A whole number as an id in every form that holds it exactly."""
    text = str(number)
    found = {
        "string": pa.array([text]),
        "large_string": pa.array([text], pa.large_string()),
        "string_view": pa.array([text], pa.string_view()),
        "binary": pa.array([text.encode()]),
        "large_binary": pa.array([text.encode()], pa.large_binary()),
        "binary_view": pa.array([text.encode()], pa.binary_view()),
        "fixed": pa.array([text.encode().ljust(24, b"\0")], pa.binary(24)),
        "decimal128": pa.array([Decimal(number)], pa.decimal128(38, 2)),
        "decimal256": pa.array([Decimal(number)], pa.decimal256(70, 12)),
        "int dictionary": pa.array([number]).dictionary_encode(),
        "string dictionary": pa.array([text]).dictionary_encode(),
        "binary dictionary": pa.array([text.encode()]).dictionary_encode(),
    }
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        if (
            (0 if str(kind)[0] == "u" else -(2 ** (kind.bit_width - 1)))
            <= number
            < 2 ** (kind.bit_width - (str(kind)[0] != "u"))
        ):
            found[str(kind)] = pa.array([number], kind)
    found |= {str(kind): pa.array([number], kind) for kind, bits in EXACT.items() if abs(number) < 2**bits}
    return found


class Reader:
    """Cells as the contract's type, by every way on which a night may read them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.folder = Path(connection.execute("SELECT current_setting('temp_directory')").fetchone()[0])
        self.count = 0

    def __call__(
        self, kind: Kind, arrays: dict[str, pa.Array], wanted: pa.DataType
    ) -> dict[str, list[tuple[Any, bool]]]:
        """Value and whether it is wrong, for each cell of each array: from a file, its plain copy, and from memory."""
        table, contract = pa.table(arrays), tuple(Column(name, kind) for name in arrays)
        self.count += 1  # a name of its own for each file: DuckDB keeps what it read of a file for a while
        pq.write_table(table, self.folder / f"stored{self.count}.parquet")
        ((stored,), _) = read_footers(Storage(str(self.folder)), [FoundFile(f"stored{self.count}.parquet")])
        types = copy_file(Storage(str(self.folder)), stored, contract, self.folder / f"plain{self.count}.parquet")
        sound, in_memory = readable(table)
        self.connection.register("memory", sound)
        misread = [name for name in arrays if is_misread(stored.types[name])]
        ways = [(self._file("stored"), stored.types), (self._file("plain"), types), ("memory", in_memory)]
        found = [
            self._cells(relation, kinds, contract, wanted, () if way else misread)
            for way, (relation, kinds) in enumerate(ways)
        ]
        assert found[1] == found[2]
        assert found[0] == {name: cells for name, cells in found[1].items() if name not in misread}
        return found[1]

    def _file(self, name: str) -> str:
        return f"read_parquet('{self.folder}/{name}{self.count}.parquet')"

    def _cells(
        self, relation: str, types: dict[str, pa.DataType], contract: Any, wanted: pa.DataType, without: Any
    ) -> dict[str, list[tuple[Any, bool]]]:
        known = [column for column in contract if column.name not in without]
        cells = [cell_of(column, types[column.name], wanted, f'"{column.name}"') for column in known]
        parts = [part for cell in cells for part in (cell.value, f"coalesce({cell.wrong or 'false'}, false)")]
        rows = self.connection.execute(f"SELECT {', '.join(parts or ['1'])} FROM {relation}").fetchall()
        return {column.name: [row[2 * n : 2 * n + 2] for row in rows] for n, column in enumerate(known)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with connect(None, ScanConfig(threads=1)) as connection:
        yield Reader(connection)


@fuzz(15)
@given(
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300), st.sampled_from([0, 2**53, 2**53 - 1, 2**24]))
)
def test_a_whole_number_is_the_same_id_in_every_form(reader: Reader, number: int) -> None:
    for wanted, same in ((pa.int64(), number), (pa.string(), str(number))):
        seen = reader(Kind.ID, forms(number), wanted)
        assert seen == {name: [(same, False)] for name in seen}


@fuzz(15)
@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=30), st.sampled_from(list(EXACT)))
def test_a_float_is_a_whole_number_that_no_other_id_rounds_to_or_no_id(
    reader: Reader, numbers: list[float], kind: pa.DataType
) -> None:
    cells = pa.array(numbers).cast(kind, safe=False)
    stored = [float(one) for one in cells.to_pylist()]
    finite = [abs(one) < float("inf") for one in stored]
    whole = [abs(one) < 2 ** EXACT[kind] and one == int(one) for one in stored]
    for wanted in KINDS:
        found = reader(Kind.ID, {"x": cells}, wanted)["x"]
        ids = [int(one) if same else None for one, same in zip(stored, whole, strict=True)]
        assert [one for one, _ in found] == [one if one is None or wanted == pa.int64() else str(one) for one in ids]
        assert [wrong for _, wrong in found] == [there and not same for there, same in zip(finite, whole, strict=True)]


@fuzz(15)
@given(st.lists(st.text(st.sampled_from("0123456789+-. eEx_"), max_size=5), min_size=2, max_size=30, unique=True))
def test_no_two_texts_become_one_number(reader: Reader, texts: list[str]) -> None:
    found = [one for one, _ in reader(Kind.ID, {"x": pa.array(texts)}, pa.int64())["x"] if one is not None]
    assert len(found) == len(set(found))
    assert {str(one) for one in found} <= set(texts)


@fuzz(15)
@given(st.uuids())
def test_a_uuid_is_its_text_in_every_form(reader: Reader, one: uuid.UUID) -> None:
    arrays = {
        "text": pa.array([str(one)]),
        "uuid": pa.array([one.bytes], pa.uuid()),
        "bytes": pa.array([one.bytes], pa.binary(16)),
        "dictionary": pa.array([str(one).encode()]).dictionary_encode(),
    }
    assert reader(Kind.ID, arrays, pa.string()) == {name: [(str(one), False)] for name in arrays}
    assert reader(Kind.ID, arrays, pa.int64()) == {name: [(None, True)] for name in arrays}


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        (b"abcdefghijklmnop", ("abcdefghijklmnop", False)),
        (b"abcdefgh\0\0\0\0\0\0\0\0", ("abcdefgh", False)),
        (bytes(16), (str(uuid.UUID(int=0)), False)),
        ("caf\u00e9-member-012".encode()[:16], (None, True)),  # text in another script, or a UUID?
    ],
)
def test_sixteen_bytes_are_text_a_uuid_or_refused(reader: Reader, cell: bytes, found: tuple[Any, bool]) -> None:
    assert reader(Kind.ID, {"x": pa.array([cell], pa.binary(16))}, pa.string())["x"] == [found]


NO_IDS = {
    "bool": pa.array([True]),
    "timestamp": pa.array([1], pa.timestamp("us")),
    "date": pa.array([1], pa.date32()),
    "duration": pa.array([1], pa.duration("s")),
    "time of day": pa.array([1], pa.time64("us")),
    "list": pa.array([[1]]),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "decimal": pa.array([Decimal("1.5")]),
    "wide decimal": pa.array([Decimal("1.5")], pa.decimal256(60, 3)),
    "bytes": pa.array([b"\xff"]),
}


@pytest.mark.parametrize("wanted", KINDS, ids=str)
def test_what_is_no_id_is_wrong(reader: Reader, wanted: pa.DataType) -> None:
    assert reader(Kind.ID, NO_IDS, wanted) == {name: [(None, True)] for name in NO_IDS}


# --- every other kind of cell

NUMBER, INTEGER, TEXT, TEXTS = (Column("x", kind) for kind in (Kind.NUMBER, Kind.INTEGER, Kind.TEXT, Kind.TEXTS))
TIME, NUMBERS = Column("x", Kind.TIME), Column("x", Kind.NUMBERS)
INF = float("inf")
CONVERTED = [
    (NUMBER, pa.array([60_000_000], pa.duration("us")), 60.0, False),
    (NUMBER, pa.array([1_500], pa.duration("ms")), 1.5, False),
    (NUMBER, pa.array(["12.5"]), 12.5, False),
    (NUMBER, pa.array([b"12.5"]), 12.5, False),
    (NUMBER, pa.array(["1e400"]), None, False),
    (NUMBER, pa.array(["nan"]), None, False),
    (NUMBER, pa.array(["1_000"]), None, True),
    (NUMBER, pa.array(["abc"]), None, True),
    (NUMBER, pa.array([True]), None, True),
    (NUMBER, pa.array([1], pa.timestamp("us")), None, True),
    (NUMBER, pa.array([1], pa.time32("s")), None, True),
    (NUMBER, pa.array([INF]), None, False),
    (NUMBER, pa.array([1e300]), None, False),
    (NUMBER, pa.array([2.5], pa.float16()), 2.5, False),
    (NUMBER, pa.array([Decimal("2.5")], pa.decimal256(60, 1)), 2.5, False),
    (NUMBER, pa.array([2**64 - 1], pa.uint64()), float(2**64), False),
    (INTEGER, pa.array([16.0]), 16, False),
    (INTEGER, pa.array([float("nan")]), None, False),
    (INTEGER, pa.array([16.5]), None, True),
    (INTEGER, pa.array(["16"]), 16, False),
    (INTEGER, pa.array([True]), None, True),
    (INTEGER, pa.array([1], pa.duration("s")), None, True),
    (TEXT, pa.array([49]), "49", False),
    (TEXT, pa.array([49.0]), "49", False),
    (TEXT, pa.array([49.5]), None, True),
    (TEXT, pa.array([True]), "true", False),
    (TEXT, pa.array([b"caf\xc3\xa9"]), "caf\u00e9", False),
    (TEXT, pa.array([b"caf\xe9"]), None, False),  # an optional cell: missing, counted as lost
    (TEXT, pa.array([1], pa.date32()), None, True),
    (TEXT, pa.array([["x"]]), None, True),
    (TEXTS, pa.array([["a", None]]), ["a", None], False),
    (TEXTS, pa.array([[b"a", b"\xff"]]), ["a", None], False),
    (TEXTS, pa.array([[18, 35]]), ["18", "35"], False),
    (TEXTS, pa.array([[{"id": 18}]]), None, True),
    (TEXTS, pa.array([[["a"]]]), None, True),
    (TEXTS, pa.array([[True]]), None, True),
    (TEXTS, pa.array(["a|b"]), None, True),
    (TEXTS, pa.array([["a"]], pa.large_list(pa.large_string())), ["a"], False),
    (TEXTS, pa.array([["a"]], pa.list_view(pa.string())), ["a"], False),
    (NUMBERS, pa.array([[1.0, INF, None]]), [1.0, INF, None], False),
    (NUMBERS, pa.array([[1e300]]), [None], False),
    (NUMBERS, pa.array([[1, 2]]), [1.0, 2.0], False),
    (NUMBERS, pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)), [1.0, 2.0], False),
    (NUMBERS, pa.array([[True]]), None, True),
    (NUMBERS, pa.array([[[1.0]]]), None, True),
    (NUMBERS, pa.array(["[1.0]"]), None, True),
    (TIME, pa.array([1], pa.timestamp("s")), 1_000_000, False),
    (TIME, pa.array([1], pa.date32()), 86_400_000_000, False),
    (TIME, pa.array(["1970-01-02"]), 86_400_000_000, False),
    (TIME, pa.array(["1970-01-02T00:00:00+00:00"]), 86_400_000_000, False),
    (TIME, pa.array(["0000-00-00"]), None, False),  # an optional cell: missing, counted as lost
    (TIME, pa.array(["infinity"]), None, False),
    (TIME, pa.array([1_700_000_000]), None, True),  # seconds or milliseconds?
    (TIME, pa.array([1_700_000_000.0]), None, True),
    (TIME, pa.array([1], pa.time64("us")), None, True),
    (TIME, pa.array([1], pa.duration("us")), None, True),
]


@pytest.mark.parametrize(("column", "array", "found", "wrong"), CONVERTED, ids=str)
def test_a_cell_is_converted_missing_or_refused(
    reader: Reader, column: Column, array: pa.Array, found: Any, wrong: bool
) -> None:
    assert reader(column.kind, {"x": array}, pa.string())["x"] == [(found, wrong)]


def test_the_plain_kinds_of_columns_cost_no_check() -> None:
    """The SQL of the common case: no cell of these types can be refused, so that nothing is compared row by row."""
    common = {
        Kind.ID: pa.int64(),
        Kind.TIME: pa.timestamp("us", "UTC"),
        Kind.TEXT: pa.string(),
        Kind.NUMBER: pa.float64(),
    }
    found = {column.name: cell_of(column, common[column.kind], pa.int64(), "c") for column in TABLES["interactions"]}
    assert {name: cell.wrong + cell.lost for name, cell in found.items()} == dict.fromkeys(found, "")
    assert found["member_id"].value == "TRY_CAST(c AS BIGINT)"
    assert found["event_time"].value == "CASE WHEN isfinite(c) THEN epoch_us(c) END"
    assert found["action"].value == found["device"].value == "c"
