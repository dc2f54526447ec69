"""A release that does not lie in the live space: announced as a new one, or refused until a person decides."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.lake.simulate import SimulationConfig, simulate
from stores.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # whole nights, each a process of its own

ROOT = Path(__file__).resolve().parents[2]
LENIENT = ("--set", "gate.quality.min_ratio_to_popularity=0", "--set", "ray.num_cpus=2")
LENIENT += ("--set", "publish.registry_ttl_s=1")
CHANGED = ("--set", "align.judge.same_cosine_p50=1")
MODELS = '''
"""Models that need no training: a title's vector follows from its id, a member's is the mean of what was played."""
import numpy as np

DIM = 8


class First:
    model_id, dim, seed = "first", DIM, 0
    basis = np.eye(DIM)

    def _vectors(self, ids):
        rows = [np.random.default_rng([self.seed, int(one)]).normal(size=DIM) for one in ids]
        return np.array(rows).reshape(-1, DIM) * np.geomspace(2, 0.5, DIM)

    def encode_titles(self, titles):
        return (self._vectors(titles["title_id"].to_pylist()) @ self.basis).astype(np.float32)

    def encode_members(self, histories):
        means = [self._vectors(ids).mean(axis=0) for ids in histories["title_id"].to_pylist()]
        return (np.array(means).reshape(-1, DIM) @ np.linalg.inv(self.basis).T).astype(np.float32)


class Retrained(First):
    """The same scores in another basis."""
    model_id = "retrained"
    basis = np.random.default_rng(1).normal(size=(DIM, DIM))


class Unrelated(First):
    """What another lake would give."""
    model_id, seed = "unrelated", 1


class UnrelatedAgain(Unrelated):
    model_id = "unrelated-again"
    basis = np.random.default_rng(2).normal(size=(DIM, DIM))
'''


def samespace(*words: str, cwd: Path, expect: int = 0) -> dict[str, Any]:
    """Run a command as a user does; its JSON answer."""
    command = [sys.executable, "-m", "pipeline.cli", *words, *LENIENT, "--workspace", "ws", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{cwd}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return dict(json.loads(done.stdout))


def night(model: str, *words: str, cwd: Path, expect: int = 0) -> dict[str, Any]:
    return samespace(
        "nightly", "--lake", "lake", "--set", f"encode.encoder=models:{model}", *words, cwd=cwd, expect=expect
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one live night."""
    place = tmp_path_factory.mktemp("opened")
    (place / "models.py").write_text(MODELS)
    simulate(str(place / "lake"), SimulationConfig(members=240, titles=120, days=30, seed=3))
    night("First", cwd=place)
    return place


@pytest.fixture
def place(opened: Path, tmp_path: Path) -> Path:
    shutil.copytree(opened, tmp_path, dirs_exist_ok=True)
    return tmp_path


def served(place: Path, view: str) -> np.ndarray:
    """Vectors of twenty members, by plain Feast."""
    from feast import FeatureStore

    first = Workspace.open(str(place / "ws")).releases()[0]
    members = first.members().to_table(columns=["member_id"]).slice(0, 20)["member_id"].to_pylist()
    store = FeatureStore(repo_path=str(place / "ws" / "feast"))
    rows = [{"member_id": one} for one in members]
    return np.array(store.get_online_features([f"{view}:embedding"], rows).to_dict()["embedding"], np.float32)


def test_an_unrelated_model_is_refused_until_a_person_opens_a_space_for_it(place: Path) -> None:
    workspace = Workspace.open(str(place / "ws"))
    first = workspace.current()
    before = served(place, "member_embedding")
    held = night("Unrelated", cwd=place, expect=4)
    assert (held["stages"]["align"]["metrics"]["outcome"], held["space_id"]) == ("refused", "2")
    error = samespace("promote", held["release_id"], cwd=place, expect=4)["error"]
    assert "--new-space" in error["fix"]
    assert workspace.current().release_id == first.release_id

    answer = samespace("promote", held["release_id"], "--new-space", "--why", "another lake", cwd=place)
    assert answer == {"current": held["release_id"], "space_id": "2"}
    release = workspace.current()
    assert (release.release_id, release.manifest.status, release.verify()) == (held["release_id"], "ready", [])
    metrics = release.report("align").metrics
    assert (metrics["outcome"], metrics["judged"], metrics["decided"]) == ("new_space", "refused", "another lake")
    np.testing.assert_array_equal(served(place, "member_embedding"), before)
    opened = served(place, "member_embedding_s2")
    assert samespace("similar", "1", "-k", "3", cwd=place)["titles"]

    following = night("UnrelatedAgain", cwd=place)
    plan = workspace.current().plan
    assert (plan.space_id, plan.reference_release) == ("2", release.release_id)
    assert (following["space_id"], following["stages"]["align"]["metrics"]["outcome"]) == ("2", "same_space")
    np.testing.assert_allclose(served(place, "member_embedding_s2"), opened, atol=1e-3)
    np.testing.assert_array_equal(served(place, "member_embedding"), before)
    assert samespace("promote", first.release_id, cwd=place)["space_id"] == "1"  # it was live there: no decision


def test_a_changed_space_is_announced_and_goes_live_under_its_own_number(place: Path) -> None:
    workspace = Workspace.open(str(place / "ws"))
    first = workspace.current()
    before = served(place, "member_embedding")
    waiting = night("Retrained", *CHANGED, "--no-promote", cwd=place)
    assert (waiting["status"], waiting["space_id"], waiting["live"]) == ("ready", "2", False)
    samespace("promote", waiting["release_id"], cwd=place, expect=4)
    samespace("promote", first.release_id, "--new-space", cwd=place, expect=2)
    announced = night("Retrained", *CHANGED, cwd=place)
    assert (announced["live"], announced["stages"]["align"]["metrics"]["outcome"]) == (True, "new_space")
    assert workspace.pointer()["space_id"] == announced["space_id"]
    np.testing.assert_array_equal(served(place, "member_embedding"), before)
