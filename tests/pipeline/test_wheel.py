"""The wheel, installed outside the repository: commands, files that are not Python, a night and the service."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel, that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("samespace-*.whl")
    place = folder / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--ignore-installed", str(wheel)], check=True
    )
    (packages,) = place.glob("lib/*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return place


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs a program of that environment in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def start(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [str(installed / "bin" / program), *words]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return start


def test_commands_and_files_are_in_the_wheel(installed: Path, run: Run, tmp_path: Path) -> None:
    assert "nightly" in run("samespace", "--help").stdout
    assert run("samespace", "init").returncode == 0
    assert "[encode]" in (tmp_path / "samespace.toml").read_text(encoding="utf-8")
    (packages,) = installed.glob("lib/*/site-packages")
    for package in PACKAGES:
        assert (packages / package / "py.typed").exists()
    for name in ("index.html", "explorer.css", "main.js"):
        assert (packages / "retrieval" / "service" / "explorer" / name).exists()
    assert (packages / "validation" / "report" / "style.css").exists()
    where = run("python", "-c", "import pipeline; print(pipeline.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed)
    assert not (packages / "tests").exists()


def test_a_night_and_the_service_run_from_the_wheel(installed: Path, run: Run, tmp_path: Path) -> None:
    made = run("samespace", "simulate", "lake", "--members", "200", "--titles", "120", "--days", "20")
    assert made.returncode == 0, made.stderr
    brief = ["--set", "train.training.max_steps=20", "--set", "train.training.min_steps=20"]
    night = run("samespace", "nightly", "--lake", "lake", "--workspace", "ws", "--json", *brief)
    assert night.returncode in (0, 4), night.stderr  # a model of twenty steps need not pass every gate
    release = json.loads(night.stdout)["release_id"]
    if night.returncode == 4:
        assert run("samespace", "promote", release, "--force", "--why", "a test", "--workspace", "ws").returncode == 0
    words = [str(installed / "bin" / "samespace"), "serve", "--workspace", "ws", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    service = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        told = service.stdout.readline() if service.stdout else ""
        address = re.search(r"http://\S+", told)
        assert address, told
        with urllib.request.urlopen(f"{address[0]}/healthz", timeout=60) as answer:
            assert json.load(answer)["release_id"] == release
        with urllib.request.urlopen(f"{address[0]}/", timeout=60) as answer:
            assert b"What is like what" in answer.read()
    finally:
        service.terminate()
        service.wait(timeout=60)
        if service.stdout:
            service.stdout.close()
