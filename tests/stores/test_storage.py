"""Files below one root: whole or not at all, on disk and on a real S3 API."""

import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from stores.errors import CorruptError, StoreError, UsageError
from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes
from stores.releases.workspace import remove_temp_files


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "disk":
        return Storage(str(tmp_path / "root"))
    return Storage(f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b.bin", b"one")
    storage.write("a/b.bin", b"two")
    assert storage.read("a/b.bin") == b"two"
    assert storage.size("a/b.bin") == 3
    assert storage.exists("a/b.bin")
    assert not storage.exists("a/c.bin")


def test_files_and_folders_are_listed_in_order(storage: Storage) -> None:
    for path in ("b/2.parquet", "b/1.parquet", "a/x/1.parquet"):
        storage.write(path, b"")
    assert storage.files("b") == ["b/1.parquet", "b/2.parquet"]
    assert storage.files("nowhere") == []
    assert storage.folders() == ["a", "b"]


def test_tables_come_back_in_file_order(storage: Storage) -> None:
    for part in (1, 0):
        storage.write(f"t/part-{part}.parquet", parquet_bytes(pa.table({"x": [part]})))
    assert storage.dataset("t").to_table()["x"].to_pylist() == [0, 1]


def test_a_tree_is_deleted_whole_and_deleting_nothing_is_fine(storage: Storage) -> None:
    storage.write("a/b/c", b"")
    storage.write("ab", b"")
    storage.delete_tree("a")
    storage.delete_tree("a")
    storage.delete("a/b/c")
    assert storage.files() == ["ab"]


def test_a_folder_is_fetched_to_local_disk_for_a_while(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    storage.write("m/x/weights", b"w")
    with storage.local_copy("m") as folder:
        assert (folder / "x" / "weights").read_bytes() == b"w"
    assert storage.read("m/x/weights") == b"w"
    assert [path.name for path in tmp_path.iterdir() if path not in before and path.name != "root"] == []


def test_temporary_files_are_swept_by_age_and_nothing_else(storage: Storage) -> None:
    for path in ("a/.tmp-1-x", "a/x", "b/.tmp-2-y"):
        storage.write(path, b"")
    remove_temp_files(storage, "a", before=datetime.now(UTC) - timedelta(days=1))
    assert len(storage.infos()) == 3
    remove_temp_files(storage, "a", before=datetime.now(UTC) + timedelta(days=1))
    assert [info.path for info in storage.infos("a")] == ["a/x"]
    remove_temp_files(storage)
    assert [info.path for info in storage.infos()] == ["a/x"]


def test_a_missing_or_unreadable_file_is_named(storage: Storage) -> None:
    with pytest.raises(CorruptError, match="no/such"):
        storage.read("no/such")
    storage.write("bad.parquet", b"PAR1 not really")
    with pytest.raises(CorruptError, match=r"bad\.parquet"):
        storage.read_table("bad.parquet")
    with pytest.raises(CorruptError, match=r"bad\.parquet"):
        storage.dataset("")


def test_a_conditional_write_needs_the_bytes_that_were_read(storage: Storage) -> None:
    storage.write("other", b"")
    assert replace_if(storage, "p", b"1", None)
    assert not replace_if(storage, "p", b"2", None)
    assert not replace_if(storage, "p", b"2", b"0")
    assert replace_if(storage, "p", b"2", b"1")
    assert storage.read("p") == b"2"


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    won: list[int] = []

    def attempt(number: int) -> None:
        if replace_if(storage, "p", str(number).encode(), None):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("p") == str(won[0]).encode()


def test_a_store_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file/x"):
        Storage(str(tmp_path)).write("file/x", b"")


@pytest.mark.parametrize(("method", "refusing"), [("delete", "delete_file"), ("delete_tree", "delete_dir")])
def test_a_deletion_that_is_refused_is_named(tmp_path: Path, method: str, refusing: str) -> None:
    storage = Storage(str(tmp_path))
    storage.write("a/b", b"")

    def refuse(_: str) -> None:
        raise PermissionError("the rights are missing")

    storage.__dict__["fs"] = SimpleNamespace(get_file_info=storage.fs.get_file_info, **{refusing: refuse})
    with pytest.raises(StoreError, match="a/b"):
        getattr(storage, method)("a/b")


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(UsageError, match="gopher"):
        Storage("gopher://x").exists("y")


def test_equal_tables_have_equal_bytes() -> None:
    table = pa.table({"x": pa.array(range(1000))})
    assert parquet_bytes(table).equals(parquet_bytes(table.slice(0)))


def test_a_server_that_does_not_answer_is_a_named_error(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    lost = Storage(f"{s3_bucket}/lost")
    for attempt in (lost.exists, lost.size, lost.files, lost.read, lost.delete, lost.delete_tree, lost.dataset):
        with pytest.raises(StoreError, match=f"x(.|\n)*{s3_bucket}"):
            attempt("x")
    with pytest.raises(StoreError, match=s3_bucket):
        lost.write("x", b"")
