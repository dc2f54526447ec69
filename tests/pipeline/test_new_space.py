"""A release that does not lie in the live space: announced as a new one, or refused until a person decides."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.releases.workspace import Workspace

pytestmark = pytest.mark.slow
Run = Callable[..., dict[str, Any]]
CHANGED = ("--set", "align.acceptance.same_cosine_p50=1")


@pytest.fixture(scope="module")
def night(samespace: Run, lake: Path) -> Run:
    """night(model, *words, cwd, expect=0): a night of one of the `planted_models`."""

    def run(model: str, *words: str, cwd: Path, expect: int = 0) -> dict[str, Any]:
        encoder = f"encode.encoder=planted_models:{model}"
        return samespace("nightly", "--lake", str(lake), "--set", encoder, *words, cwd=cwd, expect=expect)

    return run


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, night: Run) -> Path:
    """A workspace with one live night."""
    place = tmp_path_factory.mktemp("opened")
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


def test_an_unrelated_model_is_refused_until_a_person_opens_a_space_for_it(
    place: Path, night: Run, samespace: Run
) -> None:
    workspace = Workspace.open(str(place / "ws"))
    first = workspace.current()
    before = served(place, "member_embedding")
    held = night("Unrelated", cwd=place, expect=4)
    assert (held["stages"]["align"]["metrics"]["outcome"], held["space_id"]) == ("refused", "2")
    error = samespace("promote", held["release_id"], cwd=place, expect=4)["error"]
    assert "--new-space" in error["fix"]
    assert workspace.current().release_id == first.release_id

    answer = samespace("promote", held["release_id"], "--new-space", "--why", "another lake", cwd=place)
    assert answer == {"current": held["release_id"], "space_id": "2", "completed": False}
    release = workspace.current()
    assert (release.release_id, release.manifest.status, release.verify()) == (held["release_id"], "ready", [])
    metrics = release.stage_report("align").metrics
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


def test_a_changed_space_is_announced_goes_live_under_its_own_number_and_takes_the_old_one_along(
    place: Path, night: Run, samespace: Run
) -> None:
    workspace = Workspace.open(str(place / "ws"))
    first = workspace.current()
    before = served(place, "member_embedding")
    waiting = night("Retrained", *CHANGED, "--no-promote", cwd=place)
    assert (waiting["status"], waiting["space_id"], waiting["live"]) == ("ready", "2", False)
    samespace("promote", waiting["release_id"], cwd=place, expect=4)
    samespace("promote", first.release_id, "--new-space", cwd=place, expect=2)
    announced = night("Retrained", *CHANGED, "--set", "publish.previous_spaces_until=2100-01-01", cwd=place)
    assert (announced["live"], announced["stages"]["align"]["metrics"]["outcome"]) == (True, "new_space")
    assert workspace.pointer()["space_id"] == announced["space_id"]
    release = workspace.current()
    assert (release.manifest.previous_spaces["1"].release_id, release.verify()) == (release.release_id, [])
    followed = served(place, "member_embedding")  # the same scores in another basis: the old space is where it was
    np.testing.assert_allclose(followed, before, atol=1e-3)
    assert (followed != before).any()
    samespace("rollback", cwd=place)
    np.testing.assert_array_equal(served(place, "member_embedding"), before)
