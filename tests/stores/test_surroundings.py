"""A file system that is read-only, no folder for temporary files, no working folder, names that are not UTF-8."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import health_checks
from pipeline.cli import main
from pipeline.config import Config
from stores.errors import SamespaceError, StoreError, UsageError
from stores.files.filesystem import Storage, temporary_folder
from stores.publishing import publish
from stores.releases.workspace import Workspace
from tests.stores.conftest import Nights

WRITING = ("rollback", "promote current", "gc --keep 1", "report", "erase 4")
LOOKING = ("releases", "releases show", "dead-letter")
CONFIG = publish.PublishConfig(registry_ttl_s=1)
ODD = b"\xff\xfe"


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("surroundings") / "workspace"
    nights = Nights(Workspace.open(str(place)), str(place / "feast"))
    for seed in (1, 2):
        publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(9), seed), {0: seed}), CONFIG)
    return place


@pytest.fixture
def workspace(two_nights: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(two_nights, tmp_path / "workspace")
    return Workspace.open(str(tmp_path / "workspace"))


@pytest.fixture
def read_only(two_nights: Path, tmp_path: Path) -> Iterator[str]:
    """A workspace on a file system that is mounted read-only."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    try:
        shutil.copytree(two_nights, place / "workspace")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield str(place / "workspace")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def ended(capsys: pytest.CaptureFixture[str], words: str, *where: str) -> tuple[int, str]:
    """The exit code of a command and what it wrote on stderr."""
    capsys.readouterr()
    code = main([*words.split(), *where])
    return code, capsys.readouterr().err


def test_on_a_read_only_disk_every_verb_that_writes_says_so_and_those_that_look_answer(
    read_only: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in WRITING:
        code, told = ended(capsys, words, "--workspace", read_only)
        assert code == 1, words
        assert "Read-only file system" in told, words
        assert "try: " in told, words
        assert "Traceback" not in told, words
    for words in LOOKING:
        assert ended(capsys, words, "--workspace", read_only)[0] == 0, words
    findings = health_checks.check_environment(Config(workspace=read_only), Workspace.open(read_only))
    assert [one["what"] for one in findings if one["state"] == "bad"] == ["disk"]
    assert {one["state"] for one in health_checks.verify_files(Workspace.open(read_only))} == {"ok"}


def test_without_a_folder_for_temporary_files_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", nowhere)
    with pytest.raises(StoreError, match="temporary files") as caught, temporary_folder():
        pass
    assert "TMPDIR" in caught.value.fix
    (found,) = (
        one
        for one in health_checks.check_environment(Config(), Workspace.open("x"))
        if one["what"] == "temporary files"
    )
    assert found["state"] == "bad"


def test_in_a_working_folder_that_was_removed(workspace: Workspace, tmp_path: Path) -> None:
    """Commands with an absolute workspace work there; with a relative one they say what is wrong."""
    script = """
import os, sys
place = sys.argv[1]
os.makedirs(place); os.chdir(place); os.rmdir(place)
from pipeline.cli import main
code = main(sys.argv[2:])
print(code)
"""

    def run(*words: str) -> tuple[str, str]:
        command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "gone"), *words]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.stdout.splitlines()[-1], done.stderr

    assert run("releases", "--workspace", workspace.uri)[0] == "0"
    for words in (("releases",), ("rollback",), ("gc",)):
        code, told = run(*words, "--workspace", "relative")
        assert code == "2", words
        assert "was removed" in told, words
        assert "cd to a folder that exists" in told, words
        assert "Traceback" not in told, words


@pytest.mark.parametrize(
    "folder", ["releases", "releases/ID/events", "releases/ID/members", "feast/history", "journal"]
)
def test_a_name_that_is_not_utf8_is_named_with_the_cure(
    workspace: Workspace, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = workspace.storage.local(folder.replace("ID", workspace.current().release_id))
    odd = os.fsencode(place) + b"/" + ODD + b".parquet"
    Path(os.fsdecode(odd)).write_bytes(b"")
    codes = {}
    for words in (*WRITING, *LOOKING):
        codes[words], told = ended(capsys, words, "--workspace", workspace.uri)
        assert "Traceback" not in told, words
        assert codes[words] == 0 or ("\\xff" in told and "rename" in told) or "no earlier" in told, (words, told)
    assert codes["gc --keep 1"] == 1
    Path(os.fsdecode(odd)).unlink()
    assert main(["gc", "--keep", "1", "--workspace", workspace.uri]) == 0


@pytest.mark.parametrize(
    "words", [["erase", "\udcff4"], ["promote", "\udcff"], ["rollback", "--why", "\udcff"], ["similar", "\udcff"]]
)
def test_a_word_that_is_not_utf8_is_refused(
    workspace: Workspace, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--workspace", workspace.uri])
    assert ended.value.code == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_path_that_is_not_utf8_is_refused() -> None:
    for made in (lambda: Storage("/x/\udcff"), lambda: Storage("/x").exists("a\udcff")):
        with pytest.raises(UsageError, match="not UTF-8"):
            made()


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system"), OSError(5, "Input/output error")],
)
def test_a_store_that_refuses_a_small_file_is_named(
    workspace: Workspace, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights do not count for root, so the file system refuses here."""

    class Refusing:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def open_input_file(self, path: str) -> Any:
            raise error

    real = Storage.fs.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Storage, "fs", property(lambda self: Refusing(real(self))))
    with pytest.raises(SamespaceError, match=error.strerror or "") as caught:
        workspace.pointer()
    assert "current.json" in caught.value.what
    findings = health_checks.verify_files(Workspace.open(workspace.uri))
    assert "bad" in {one["state"] for one in findings}
