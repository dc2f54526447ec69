"""One import name: the links of `src/samespace`, no bare import anywhere, a user's packages beside ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
SIX = "|".join(FOLDERS)
FROM = rf"(?<![\w.])from (?:{SIX})(?:\.\w+)* import\b"
IMPORT = rf"""(?:^|["';]|\\n)[ ]*import (?:\w+, )*(?:{SIX})\b"""
BARE = re.compile(f"{FROM}|{IMPORT}|-m pipeline\\b", re.M)
OWN = ("pipeline", "retrieval", "stores", "validation")
SPAWNED = """
import multiprocessing
import pipeline, retrieval, stores, validation
import samespace.pipeline.cli, samespace.retrieval.config, samespace.validation.checks
from samespace.stores.errors import UsageError

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        error = pool.apply(UsageError, ("theirs and ours",))
    assert type(error) is UsageError
    print(pipeline.OWN, retrieval.OWN, stores.OWN, validation.OWN)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with packages of the user's that are named as folders of ours."""
    for name in OWN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWN = {name!r}\n", encoding="utf-8")
    return tmp_path


def run(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_a_link_to_every_folder_and_nothing_else() -> None:
    place = ROOT / "src" / "samespace"
    links = {path.name: path.readlink().as_posix() for path in place.iterdir() if path.is_symlink()}
    assert links == {name: f"../../{name}" for name in FOLDERS}
    files = {path.name for path in place.iterdir() if not path.is_symlink()} - {"__pycache__"}
    assert files == {"__init__.py", "__main__.py", "py.typed"}


def test_no_file_imports_a_folder_by_its_bare_name() -> None:
    """Code in strings and on pages too, which ruff's TID251 does not see."""
    listed = [ROOT / name for name in ("Makefile", "README.md", "pyproject.toml", "ray_cluster.yaml")]
    for name in (*FOLDERS, "tests", "benchmarks", "examples", "docs"):
        listed += [path for kind in ("py", "md", "ipynb", "yaml") for path in (ROOT / name).rglob(f"*.{kind}")]
    exempt = {Path(__file__).resolve(), ROOT / "docs" / "log.md"}
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in listed
        if path.resolve() not in exempt
        for match in BARE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_packages_of_a_user_neither_hide_ours_nor_are_hidden(folder: Path) -> None:
    (folder / "spawned.py").write_text(SPAWNED, encoding="utf-8")
    assert run(folder, "spawned.py").split() == list(OWN)


def test_the_module_is_the_command(folder: Path) -> None:
    from samespace import __version__

    assert run(folder, "-m", "samespace", "--version").split() == ["samespace", __version__]
    assert "nightly" in run(folder, "-m", "samespace", "--help")


def test_importing_the_name_imports_nothing_else(folder: Path) -> None:
    code = "import sys, samespace; print([name for name in sys.modules if name.startswith('samespace.')])"
    assert run(folder, "-c", code).strip() == "[]"
