"""The researchers' notebook runs from top to bottom on a published workspace, and what it says is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "researcher.ipynb"


def source() -> str:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 6


@pytest.fixture(scope="module")
def workspace(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published night of a small simulated service."""
    from pipeline.cli import main
    from stores.releases.workspace import Workspace

    folder = tmp_path_factory.mktemp("night")
    lake, there = str(folder / "lake"), str(folder / "ws")
    assert main(["simulate", lake, "--members", "400", "--titles", "300", "--days", "30"]) == 0
    brief = ["--set", "train.training.max_steps=100", "--set", "train.training.min_steps=100"]
    if main(["nightly", "--lake", lake, "--workspace", there, *brief]) == 4:  # a brief model need not pass every gate
        held = Workspace.open(there).releases()[-1].release_id
        assert main(["promote", held, "--force", "--why", "a test", "--workspace", there]) == 0
    return Path(there)


@pytest.mark.slow
def test_the_notebook_runs(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", source()],
        cwd=ROOT,
        env={**os.environ, "WORKSPACE": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    near, chance = map(float, re.search(r"neighbours ([\d.]+), chance ([\d.]+)", done.stdout).groups())
    assert near > chance
    native, aligned = map(float, re.search(r"native (-?[\d.]+), aligned ([\d.]+)", done.stdout).groups())
    assert aligned > 0.95 > 0.5 > abs(native)


@pytest.mark.slow
def test_plain_faiss_finds_what_the_command_line_finds(workspace: Path) -> None:
    from retrieval.lookup import candidates
    from stores.releases.workspace import Workspace

    release = Workspace.open(str(workspace)).current()
    member = release.members().head(1, columns=["member_id"])["member_id"][0].as_py()
    words = ["examples/plain_faiss.py", "--workspace", str(workspace), "--members", str(member)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = candidates(release, member, 10, exclude_seen=False)
    assert re.findall(r"(\d+) \(", done.stdout) == [str(title["title_id"]) for title in expected]
