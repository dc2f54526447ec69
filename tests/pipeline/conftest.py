"""What tests of whole nights share: commands as a user gives them, a small lake, a trained model.

`samespace` runs a command in this process, beside the one Ray of the run; `process` runs it as a process of its own,
which costs ten seconds of starting more and is for tests of just that.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from stores.lake.simulation.simulate import SimulationConfig, simulate

ROOT = Path(__file__).resolve().parents[2]
BRIEF = ("train.training.min_steps=60", "train.training.max_steps=60", "ray.num_cpus=2", "encode.workers=1")
LENIENT = ("gate.quality.min_ratio_to_popularity=0", "publish.registry_ttl_s=1")
Run = Callable[..., dict[str, Any]]


def _words(words: tuple[str, ...], as_json: bool = True) -> list[str]:
    settings = [part for setting in (*BRIEF, *LENIENT) for part in ("--set", setting)]
    return [words[0], "--workspace", "ws", *words[1:], *settings, *(["--json"] if as_json else [])]


def _answer(told: str, aside: str, code: int, expect: int) -> dict[str, Any]:
    assert code == expect, f"exit {code}\n{told}\n{aside}"
    assert "Traceback" not in aside
    (line,) = told.splitlines()
    return dict(json.loads(line))


@pytest.fixture(scope="session")
def samespace(ray_session: None, here: Run) -> Run:
    """samespace(*words, cwd, expect=0): the JSON answer of a command that ends with that exit code."""
    return here


@pytest.fixture(scope="session")
def here() -> Run:
    """The same for commands that need no Ray."""
    from pipeline.cli import main

    def run(*words: str, cwd: Path, expect: int = 0) -> dict[str, Any]:
        told, aside = io.StringIO(), io.StringIO()
        with chdir(cwd), warnings.catch_warnings(), redirect_stdout(told), redirect_stderr(aside):
            code = main(_words(words))
        return _answer(told.getvalue(), aside.getvalue(), code, expect)

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.Popen[str]]:
    """process(*words, cwd, path="", as_json=True): the command as a process of its own session.

    `path` is a folder of modules; without `as_json` it prints what a person is to read.
    """

    def start(*words: str, cwd: Path, path: str = "", as_json: bool = True) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path]))}
        command = [sys.executable, "-m", "pipeline.cli", *_words(words, as_json)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    return start


@pytest.fixture
def alone(process: Callable[..., subprocess.Popen[str]]) -> Run:
    """The same as `samespace`, in a process of its own."""

    def run(*words: str, cwd: Path, expect: int = 0, path: str = "") -> dict[str, Any]:
        started = process(*words, cwd=cwd, path=path)
        told, aside = started.communicate()
        return _answer(told, aside, started.returncode, expect)

    return run


@pytest.fixture
def installed() -> Run:
    """The same by the installed command, with nothing but what is installed on Python's path."""

    def run(*words: str, cwd: Path, expect: int = 0) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(Path(sys.executable).with_name("samespace")), *_words(words)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        return _answer(done.stdout, done.stderr, done.returncode, expect)

    return run


@pytest.fixture(scope="session")
def vectors() -> Callable[[Any, str], tuple[list[Any], np.ndarray]]:
    """vectors(release, kind): ids in order and the vectors in that order."""

    def read(release: Any, kind: str) -> tuple[list[Any], np.ndarray]:
        table = (release.members() if kind == "member" else release.titles()).to_table().sort_by(f"{kind}_id")
        flat = pc.list_flatten(table["embedding"]).to_numpy()
        return table[f"{kind}_id"].to_pylist(), flat.reshape(table.num_rows, -1)

    return read


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated service."""
    place = tmp_path_factory.mktemp("service") / "lake"
    simulate(str(place), SimulationConfig(members=240, titles=120, days=30, seed=3))
    return place


@pytest.fixture(scope="session")
def models(lake: Path, samespace: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of a workspace in which one model was trained and no night has run."""
    place = tmp_path_factory.mktemp("trained")
    samespace("train", "--lake", str(lake), cwd=place)
    return place / "ws" / "models"


@pytest.fixture
def place(models: Path, tmp_path: Path) -> Path:
    """A folder of the test's own whose workspace has that model."""
    shutil.copytree(models, tmp_path / "ws" / "models")
    return tmp_path
