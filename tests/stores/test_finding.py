"""Which files of a lake's folder are data: by ending or by bytes; the others are listed, never forgotten."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores.errors import ContractError, NotFoundError, StoreError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.file_listing import describe_left_out, find_files, log_left_out
from stores.lake.scan import ScanConfig, connect, lake_sources, rows_sql
from tests.stores.test_contract import put, put_events


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    put_events(tmp_path / "lake" / "interactions" / "a.parquet", [1, 2])
    put(tmp_path / "lake" / "titles" / "t.parquet", title_id=[7])
    return tmp_path / "lake"


def members(lake: Path | str) -> list[int]:
    opened = Lake.open(str(lake))
    table = opened.interactions
    ids = {column: opened.id_type(column) for column in ("member_id", "title_id")}
    with connect(opened, ScanConfig(threads=1)) as connection:
        sql = rows_sql(lake_sources(opened, table), table.contract, ids)
        return sorted(row[0] for row in connection.execute(f"SELECT member_id FROM ({sql})").fetchall())


@pytest.mark.parametrize("name", ["000001_0", "part-0", "b.PARQUET", "day.snappy", "x.parquet.gz", "b.parq", "b.pq"])
def test_parquet_is_known_by_its_bytes_where_the_name_says_nothing(lake: Path, name: str) -> None:
    put_events(lake / "interactions" / "b.parquet", [3]).rename(lake / "interactions" / name)
    assert members(lake) == [1, 2, 3]
    assert Lake.open(str(lake)).left_out == []


LEFT = {
    "notes.csv": b"member_id\n1\n",
    "old.orc": b"ORC",
    "rows.json": b"{}",
    "noise": b"not parquet",
    "nothing": b"",
    "_hidden.parquet": b"PAR1",
    ".hidden.parquet": b"PAR1",
    "part.parquet.tmp": b"half",
    "_old/b.parquet": b"PAR1",
}
BESIDE = ("_SUCCESS", "._SUCCESS.crc", ".a.parquet.crc", "_temporary/0/b.parquet", "_metadata", "day_$folder$")


@pytest.mark.parametrize("name", LEFT)
def test_every_file_that_is_left_out_is_named_with_a_reason(lake: Path, name: str) -> None:
    place = lake / "interactions" / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(LEFT[name])
    (file,) = Lake.open(str(lake)).left_out
    assert file.path == f"interactions/{name}"
    assert file.why
    assert members(lake) == [1, 2]


@pytest.mark.parametrize("name", BESIDE)
def test_by_products_of_those_who_write_parquet_are_not_worth_a_word(lake: Path, name: str) -> None:
    place = lake / "interactions" / name
    place.parent.mkdir(exist_ok=True, parents=True)
    place.write_bytes(b"x")
    assert Lake.open(str(lake)).left_out == []


def test_what_is_left_out_is_said_with_a_count_and_the_first_names(lake: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(30):
        (lake / "interactions" / f"{number:02}.csv").write_text("x")
    opened = Lake.open(str(lake))
    log_left_out(opened.left_out)
    told = capsys.readouterr().err
    assert "30 files are left out" in told
    assert "interactions/00.csv: not Parquet but csv" in told
    figures = describe_left_out(opened.left_out)
    assert figures["count"] == 30
    assert figures["first"][0] == {"path": "interactions/00.csv", "why": "not Parquet but csv"}


def test_a_table_of_files_that_are_no_parquet_names_them(lake: Path) -> None:
    (lake / "titles" / "t.parquet").unlink()
    (lake / "titles" / "titles.csv").write_text("title_id\n1\n")
    with pytest.raises(NotFoundError, match=r"titles/titles\.csv: not Parquet but csv"):
        Lake.open(str(lake))


def test_a_partition_whose_name_begins_with_an_underscore_is_data(lake: Path) -> None:
    put_events(lake / "interactions" / "_date=2026-01-01" / "b.parquet", [3])
    assert members(lake) == [1, 2, 3]


# --- table formats

FORMATS = [
    ("_delta_log/00000000000000000000.json", "Delta Lake"),
    ("deep/er/_delta_log/00000000000000000000.json", "Delta Lake"),
    ("metadata/v1.metadata.json", "Iceberg"),
    ("metadata/00001-a-b.gz.metadata.json", "Iceberg"),
    ("sub/metadata/version-hint.text", "Iceberg"),
    (".hoodie/hoodie.properties", "Hudi"),
    ("country=DE/.hoodie_partition_metadata", "Hudi"),
]


@pytest.mark.parametrize("table", ["interactions", "titles", "impressions", "members"])
@pytest.mark.parametrize(("name", "kind"), FORMATS)
def test_a_folder_that_a_table_format_keeps_is_refused_by_name(lake: Path, table: str, name: str, kind: str) -> None:
    place = lake / table / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("{}")
    with pytest.raises(ContractError, match=kind) as caught:
        Lake.open(str(lake))
    assert caught.value.exit_code == 3
    assert name.split("/")[0] in caught.value.where
    assert "plain Parquet" in caught.value.fix


def test_an_empty_log_is_a_log(lake: Path) -> None:
    (lake / "interactions" / "_delta_log").mkdir()
    with pytest.raises(ContractError, match="Delta Lake"):
        Lake.open(str(lake))


@pytest.mark.parametrize("name", ["metadata/notes.json", "delta/x.txt", "_delta_log.txt"])
def test_names_that_only_look_alike_are_no_table_format(lake: Path, name: str) -> None:
    place = lake / "interactions" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("x")
    assert members(lake) == [1, 2]


# --- links


def test_links_to_files_and_folders_outside_are_followed(lake: Path) -> None:
    outside = lake.parent / "elsewhere"
    put_events(outside / "b.parquet", [3])
    put_events(outside / "day" / "c.parquet", [4])
    (lake / "interactions" / "b.parquet").symlink_to(outside / "b.parquet")
    (lake / "interactions" / "day").symlink_to(outside / "day")
    assert members(lake) == [1, 2, 3, 4]
    assert Lake.open(str(lake)).left_out == []


def test_whole_tables_and_the_lake_itself_may_be_links(lake: Path) -> None:
    put_events(lake.parent / "moved" / "b.parquet", [9])
    for file in (lake / "interactions").iterdir():
        file.rename(lake.parent / "moved" / file.name)
    (lake / "interactions").rmdir()
    (lake / "interactions").symlink_to(lake.parent / "moved")
    (lake.parent / "linked").symlink_to(lake)
    assert members(lake) == members(lake.parent / "linked") == [1, 2, 9]


def test_nothing_beside_a_linked_file_can_be_read(lake: Path) -> None:
    import duckdb

    outside = put_events(lake.parent / "elsewhere" / "b.parquet", [3])
    secret = put_events(lake.parent / "elsewhere" / "secret.parquet", [4])
    (lake / "interactions" / "b.parquet").symlink_to(outside)
    with connect(Lake.open(str(lake)), ScanConfig()) as connection, pytest.raises(duckdb.PermissionException):
        connection.execute(f"SELECT * FROM read_parquet('{secret}')")


def test_a_file_that_several_links_lead_to_counts_once(lake: Path) -> None:
    for name in ("0.parquet", "z.parquet"):
        (lake / "interactions" / name).symlink_to(lake / "interactions" / "a.parquet")
    assert members(lake) == [1, 2]
    assert {file.why for file in Lake.open(str(lake)).left_out} == {"it is interactions/a.parquet"}


def test_a_link_into_a_hidden_store_is_data(lake: Path) -> None:
    """As git-annex and DVC keep files."""
    put_events(lake / "interactions" / ".store" / "b.parquet", [3])
    (lake / "interactions" / "b.parquet").symlink_to(lake / "interactions" / ".store" / "b.parquet")
    assert members(lake) == [1, 2, 3]


def test_loops_and_links_to_nothing_are_named(lake: Path) -> None:
    (lake / "interactions" / "loop").symlink_to(lake / "interactions")
    (lake / "interactions" / "self").symlink_to("self")
    (lake / "interactions" / "gone.parquet").symlink_to("/nowhere")
    os.mkfifo(lake / "interactions" / "pipe.parquet")
    assert members(lake) == [1, 2]
    whys = {file.path.split("/")[1]: file.why for file in Lake.open(str(lake)).left_out}
    assert whys == {
        "loop": "a link to a folder that it lies in",
        "self": "a link that leads nowhere",
        "gone.parquet": "a link that leads nowhere",
        "pipe.parquet": "no regular file",
    }


def test_a_name_that_is_not_utf8_is_named(lake: Path) -> None:
    place = lake / "interactions" / "b.parquet"
    put_events(place, [3])
    place.rename(os.fsdecode(os.fsencode(place.parent) + b"/\xe9.parquet"))
    (file,) = Lake.open(str(lake)).left_out
    assert (file.path, file.why) == ("interactions/\\xe9.parquet", "its name is not UTF-8")


def test_a_folder_that_cannot_be_listed_is_an_error(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match=r"interactions/ cannot be listed.*Permission denied"):
        find_files(Storage(str(lake)), "interactions")


# --- keys of an object store

KEYS = [
    "//b.parquet",
    "/./b.parquet",
    "/../b.parquet",
    "/a%20b/b.parquet",
    "/日本=é ü/b.parquet",
    "/q?x#y/b+.parquet",
    "/p",
]


def test_any_key_is_a_file(tmp_path: Path, s3_bucket: str) -> None:
    import boto3

    storage = Storage(f"{s3_bucket}/keys")
    storage.write("titles/t.parquet", put(tmp_path / "t", title_id=[7]).read_bytes())
    store = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for number, key in enumerate(KEYS):
        body = put_events(tmp_path / "b", [number]).read_bytes()
        store.put_object(Bucket="test", Key=f"keys/interactions{key}", Body=body)
    assert members(storage.uri) == list(range(len(KEYS)))
    assert Lake.open(storage.uri).left_out == []


def test_a_log_on_an_object_store_is_a_log(tmp_path: Path, s3_bucket: str) -> None:
    storage = Storage(f"{s3_bucket}/delta")
    storage.write("interactions/a.parquet", put_events(tmp_path / "a", [1]).read_bytes())
    storage.write("titles/t.parquet", put(tmp_path / "t", title_id=[7]).read_bytes())
    storage.write("titles/_delta_log/0.json", b"{}")
    with pytest.raises(ContractError, match="titles/ is a table of Delta Lake"):
        Lake.open(storage.uri)


# --- columns


@pytest.mark.parametrize("names", [("title_id", "title_id"), ("Title_ID", "title_id"), ("title_id", "TITLE_ID")])
def test_a_column_that_is_there_twice_is_refused_by_name(lake: Path, names: tuple[str, str]) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], list(names))
    pq.write_table(table, lake / "titles" / "u.parquet")
    (broken,) = Lake.open(str(lake)).titles.broken
    assert (broken.reason, broken.column, broken.rows) == ("ambiguous column", "title_id", 1)
    assert broken.detail == f"the file has {names[0]}, {names[1]}"


def test_a_column_in_another_case_only_is_refused_by_name(lake: Path) -> None:
    pq.write_table(pa.table({"title_id": [8], "Name": ["x"]}), lake / "titles" / "u.parquet")
    (broken,) = Lake.open(str(lake)).titles.broken
    assert (broken.reason, broken.column, broken.detail) == ("ambiguous column", "name", "the file has Name")


def test_columns_outside_the_contract_may_be_there_twice(lake: Path) -> None:
    table = pa.Table.from_arrays([pa.array([8]), pa.array([2]), pa.array([3])], ["title_id", "x", "X"])
    pq.write_table(table, lake / "titles" / "u.parquet")
    assert Lake.open(str(lake)).titles.broken == ()
