"""Laws of the lake's contract: what is a lake, what is set aside, what is refused with which error."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores.errors import ConfigError, ContractError, NotFoundError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake, LakeTable, id_type_of
from stores.lake.parquet_files import MISSING_COLUMN, UNREADABLE
from stores.lake.scan import ROW_BITS, ScanConfig, connect, lake_sources, rows_sql
from stores.lake.tables import TABLES

MOMENT = datetime(2024, 5, 1, tzinfo=UTC)


def put(place: Path, **columns: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), place)
    return place


def put_events(place: Path, members: Any = (1, 2), titles: Any = None, **more: Any) -> Path:
    rows = len(members)
    times = pa.array([MOMENT] * rows, pa.timestamp("us", tz="UTC"))
    columns = {"member_id": members, "title_id": titles or [7] * rows, "event_time": times, "action": ["play"] * rows}
    return put(place, **{**columns, **more})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    put_events(tmp_path / "interactions" / "a.parquet", [1, 2], [7, 8])
    put_events(tmp_path / "interactions" / "day=2" / "b.parquet", [3], [7])
    put(tmp_path / "titles" / "t.parquet", title_id=[7, 8], name=["x", None])
    return tmp_path


def read(lake: Lake, name: str) -> pa.Table:
    table = lake.tables[name]
    ids = {column: lake.id_type(column) for column in ("member_id", "title_id")}
    with connect(lake, ScanConfig(threads=1)) as connection:
        sql = rows_sql(lake_sources(lake, table), table.contract, ids)
        return connection.execute(f"SELECT * FROM ({sql}) ORDER BY pos").to_arrow_table()


def test_no_lake_is_not_the_root_of_the_disk() -> None:
    with pytest.raises(NotFoundError, match="no lake is named"):
        Lake.open("")


def test_opens_nested_files_and_ignores_hidden_ones(lake: Path) -> None:
    put_events(lake / "interactions" / "_temporary" / "0.parquet", ["x"])
    put_events(lake / "interactions" / ".hidden.parquet", ["x"])
    (lake / "interactions" / "_SUCCESS").write_text("")
    opened = Lake.open(str(lake))
    assert [file.path for file in opened.interactions.files] == [
        "interactions/a.parquet",
        "interactions/day=2/b.parquet",
    ]
    assert opened.interactions.rows == 3
    assert opened.impressions is None
    assert opened.members is None


def test_rows_are_named_by_file_and_place(lake: Path) -> None:
    rows = read(Lake.open(str(lake)), "interactions")
    assert [(pos >> ROW_BITS, pos % (1 << ROW_BITS)) for pos in rows["pos"].to_pylist()] == [(0, 0), (0, 1), (1, 0)]
    assert rows["member_id"].to_pylist() == [1, 2, 3]
    assert rows["event_time"].to_pylist() == [round(MOMENT.timestamp() * 1e6)] * 3


@pytest.mark.parametrize("missing", ["lake", "interactions", "titles"])
def test_a_missing_folder_is_named(lake: Path, missing: str) -> None:
    for file in (lake / missing).rglob("*.parquet"):
        file.unlink()
    for folder in sorted((lake / missing).rglob("*"), reverse=True):
        folder.rmdir()
    place = lake / "elsewhere" if missing == "lake" else lake
    with pytest.raises(NotFoundError, match="elsewhere" if missing == "lake" else missing) as caught:
        Lake.open(str(place))
    assert caught.value.exit_code == 2
    assert caught.value.fix


def test_an_empty_lake_is_not_found(lake: Path) -> None:
    for file in (lake / "interactions").rglob("*.parquet"):
        pq.write_table(pq.read_table(file, partitioning=None).slice(0, 0), file)
    with pytest.raises(NotFoundError, match="no rows in 2 files"):
        Lake.open(str(lake))


def test_a_column_that_no_file_has_breaks_the_contract(lake: Path) -> None:
    for file in (lake / "interactions").rglob("*.parquet"):
        pq.write_table(
            pq.read_table(file, partitioning=None).rename_columns(["member_id", "title_id", "when", "action"]), file
        )
    with pytest.raises(ContractError, match="event_time") as caught:
        Lake.open(str(lake))
    assert caught.value.exit_code == 3
    assert "when" in str(caught.value)
    assert ".parquet" in str(caught.value)


def test_a_file_without_a_required_column_is_set_aside_with_its_rows(lake: Path) -> None:
    put(lake / "interactions" / "c.parquet", member_id=[1, 2, 3, 4])
    (broken,) = Lake.open(str(lake)).interactions.broken
    assert (broken.path, broken.reason, broken.rows) == ("interactions/c.parquet", MISSING_COLUMN, 4)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_an_unreadable_file_is_set_aside(lake: Path, content: bytes) -> None:
    (lake / "interactions" / "z.parquet").write_bytes(content)
    opened = Lake.open(str(lake)).interactions
    assert [(file.path, file.reason) for file in opened.broken] == [("interactions/z.parquet", UNREADABLE)]
    assert opened.broken[0].rows >= 1
    assert opened.rows == 3


def test_a_truncated_file_counts_about_the_rows_it_had(tmp_path: Path) -> None:
    for part in range(4):
        put_events(tmp_path / "interactions" / f"{part}.parquet", list(range(5000)), list(range(5000)))
    put(tmp_path / "titles" / "t.parquet", title_id=[1])
    whole = (tmp_path / "interactions" / "3.parquet").read_bytes()
    (tmp_path / "interactions" / "3.parquet").write_bytes(whole[: len(whole) // 2])
    (broken,) = Lake.open(str(tmp_path)).interactions.broken
    assert 2000 < broken.rows < 3000


def test_only_unreadable_files_break_the_contract(lake: Path) -> None:
    (lake / "titles" / "t.parquet").write_bytes(b"junk")
    with pytest.raises(ContractError, match="unreadable"):
        Lake.open(str(lake))


def test_the_fingerprint_follows_every_change(lake: Path) -> None:
    first = Lake.open(str(lake)).fingerprint()
    assert Lake.open(str(lake)).fingerprint() == first
    os.utime(lake / "titles" / "t.parquet", ns=(1, 1))
    second = Lake.open(str(lake)).fingerprint()
    (lake / "interactions" / "z.parquet").write_bytes(b"junk")
    assert len({first, second, Lake.open(str(lake)).fingerprint()}) == 3


def test_mixed_types_are_read_where_they_can_be_and_marked_where_not(lake: Path) -> None:
    put(
        lake / "interactions" / "c.parquet",
        member_id=["4", "five", None],
        title_id=pa.array([7.0, 7.5, 8.0]),
        event_time=["2024-05-01T02:00:00+02:00", "2024-05-01", "yesterday"],
        action=pa.array(["play"] * 3).dictionary_encode(),
        duration_s=["1.5", "long", None],
    )
    rows = read(Lake.open(str(lake)), "interactions").slice(2, 3)
    assert rows["member_id"].to_pylist() == [4, None, None]
    assert rows["title_id"].to_pylist() == [7, None, 8]
    assert rows["event_time"].to_pylist() == [round(MOMENT.timestamp() * 1e6)] * 2 + [None]
    assert rows["action"].to_pylist() == ["play"] * 3
    assert rows["duration_s"].to_pylist() == [1.5, None, None]
    assert rows["wrong"].to_pylist() == [None, "member_id", "event_time"]
    assert rows["wrong_value"].to_pylist() == [None, "five", "yesterday"]


@pytest.mark.parametrize(
    "stored",
    [
        pa.array([[1], [2]]),
        pa.array([{"x": 1}, {"x": 2}]),
        pa.array([True, False]),
        pa.array([MOMENT] * 2),
        pa.array([b"\xff1", b"\xfe"]),
        pa.array([1.5, 2.0**53]),
        pa.array([2**63, 2**64 - 1], pa.uint64()),
    ],
    ids=lambda array: str(array.type),
)
def test_a_type_that_cannot_be_an_id_is_wrong_not_fatal(lake: Path, stored: pa.Array) -> None:
    put_events(lake / "interactions" / "c.parquet", stored, [7, 8])
    opened = Lake.open(str(lake))
    rows = read(opened, "interactions").slice(2, 2)
    assert rows["wrong"].to_pylist() == ["member_id"] * 2


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint32(), pa.int32(), pa.decimal128(12, 0), pa.float32()])
def test_whole_numbers_widen_to_int64(tmp_path: Path, kind: pa.DataType) -> None:
    put_events(tmp_path / "interactions" / "a.parquet", pa.array([1, 100], pa.int16()).cast(kind), [7, 8])
    put(tmp_path / "titles" / "t.parquet", title_id=[7, 8])
    opened = Lake.open(str(tmp_path))
    assert opened.id_type("member_id") == pa.int64()
    assert read(opened, "interactions")["member_id"].to_pylist() == [1, 100]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_every_kind_are_strings(tmp_path: Path, kind: pa.DataType) -> None:
    put_events(tmp_path / "interactions" / "a.parquet", pa.array(["é", "日本"]).cast(kind), [7, 8])
    put(tmp_path / "titles" / "t.parquet", title_id=[7, 8])
    opened = Lake.open(str(tmp_path))
    assert opened.id_type("member_id") == pa.string()
    assert read(opened, "interactions")["member_id"].to_pylist() == ["é", "日本"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_every_unit_and_zone_of_time_is_the_same_moment(tmp_path: Path, unit: str, zone: str | None) -> None:
    utc = pa.array([MOMENT.replace(tzinfo=None)] * 2, pa.timestamp(unit))
    times = utc if zone is None else utc.cast(pa.timestamp(unit, tz="UTC")).cast(pa.timestamp(unit, tz=zone))
    put_events(tmp_path / "interactions" / "a.parquet", event_time=times)
    put(tmp_path / "titles" / "t.parquet", title_id=[7, 8])
    assert (
        read(Lake.open(str(tmp_path)), "interactions")["event_time"].to_pylist()
        == [round(MOMENT.timestamp() * 1e6)] * 2
    )


def test_a_contract_column_may_come_from_the_folder(tmp_path: Path) -> None:
    for country in ("DE", "a b"):
        put_events(tmp_path / "interactions" / f"country={country.replace(' ', '%20')}" / "a.parquet", [1], [7])
    put(tmp_path / "titles" / "t.parquet", title_id=[7])
    assert sorted(read(Lake.open(str(tmp_path)), "interactions")["country"].to_pylist()) == ["DE", "a b"]


def test_files_may_differ_in_columns_outside_the_contract(lake: Path) -> None:
    put_events(lake / "interactions" / "c.parquet", [4], [7], extra=[{"deep": [1]}], device=["tv"])
    put_events(lake / "interactions" / "d.parquet", [5], [7], extra=["flat"])
    rows = read(Lake.open(str(lake)), "interactions")
    assert sorted(rows["member_id"].to_pylist()) == [1, 2, 3, 4, 5]
    assert "extra" not in rows.column_names


def test_names_with_quotes_and_wildcards_are_exact(lake: Path) -> None:
    put_events(lake / "interactions" / "it's [1] *.parquet", [4], [7])
    assert sorted(read(Lake.open(str(lake)), "interactions")["member_id"].to_pylist()) == [1, 2, 3, 4]


def test_duckdb_reads_the_lake_and_nothing_else(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    import duckdb

    outside = put(tmp_path_factory.mktemp("outside") / "x.parquet", a=[1])
    with connect(Lake.open(str(lake)), ScanConfig()) as connection, pytest.raises(duckdb.PermissionException):
        connection.execute(f"SELECT * FROM read_parquet('{outside}')")


def test_an_unusable_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="banana"), connect(None, ScanConfig(memory_limit="banana")):
        pass


def test_most_rows_decide_the_kind_of_an_id() -> None:
    assert id_type_of([(pa.int32(), 5), (pa.string(), 4)]) == pa.int64()
    assert id_type_of([(pa.int32(), 4), (pa.string(), 5)]) == pa.string()


def test_required_columns_are_those_of_the_product() -> None:
    required = {name: [column.name for column in table if column.required] for name, table in TABLES.items()}
    assert required["interactions"] == ["member_id", "title_id", "event_time", "action"]
    assert required["titles"] == ["title_id"]
    assert LakeTable("titles", (), ()).present == ()


def test_importing_the_lake_imports_no_duckdb() -> None:
    code = "import stores, stores.lake.contract, stores.lake.scan, sys; assert 'duckdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_lake_on_an_object_store_is_read_like_one_on_disk(lake: Path, s3_bucket: str) -> None:
    uri = f"{s3_bucket}/lake of contract"
    storage = Storage(uri)
    for file in lake.rglob("*.parquet"):
        storage.write(file.relative_to(lake).as_posix(), file.read_bytes())
    local, remote = Lake.open(str(lake)), Lake.open(uri)
    for table in ("interactions", "titles"):
        assert read(remote, table).equals(read(local, table))
    assert remote.fingerprint() == Lake.open(uri).fingerprint()
    with pytest.raises(NotFoundError, match="there is no lake"):
        Lake.open(f"{s3_bucket}/nothing here")
