"""The habits of the house that no linter knows: the README's tree, public names, lazy imports."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
HEAVY = ("torch", "ray", "feast", "great_expectations")


def modules(folder: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}


def test_the_readme_tree_names_every_package_and_no_other() -> None:
    tree = re.search(r"<!-- tree -->\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert tree
    named: set[str] = set()
    path: list[str] = []
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.split()[0].rstrip("/")]
        named.add("/".join(path))
    inner = ("suites", "report", "simulation", "explorer")  # parts of one package
    packages = {Path(name).parent.as_posix() for folder in FOLDERS for name in modules(folder)}
    assert named == {name for name in packages if Path(name).name not in inner}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_says_what_it_is_for(folder: str) -> None:
    for path in modules(folder):
        said = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
        assert len(said.split()) >= 4, path
        assert "TODO" not in said, path


@pytest.mark.parametrize(
    "package",
    ["alignment", "embeddings", "embeddings.foundation", "retrieval", "retrieval.service", "stores", "validation"],
)
def test_every_public_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        _ = module.no_such_name


@pytest.mark.parametrize("verb", ["releases", "similar", "candidates"])
def test_commands_that_only_look_import_nothing_heavy(verb: str, tmp_path: Path) -> None:
    words = {"similar": ["1"], "candidates": ["1"]}.get(verb, [])
    program = (
        "import sys; from pipeline.cli import main; "
        f"main([{verb!r}, *{words!r}, '--workspace', {str(tmp_path)!r}, '--json']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_no_file_of_the_tests_is_without_its_module() -> None:
    """tests/<folder>/test_<module>.py: the tests mirror the folders."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests").parts
        assert not folder or folder[0] in (*FOLDERS, "examples", "benchmarks", "chaos"), path
