"""Nights beside tasks: the night's own has nothing of them; a task's model publishes from a workspace of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.releases.workspace import Workspace

Run = Callable[..., dict[str, Any]]
Vectors = Callable[[Any, str], tuple[list[Any], np.ndarray]]
FEW = ("--set", "tasks.steps_per_task=3", "--set", "tasks.rounds=1", "--set", 'tasks.names=["plays"]')

pytestmark = pytest.mark.slow


def test_a_night_has_nothing_of_tasks_and_a_tasks_model_has_nights_of_its_own(
    lake: Path, place: Path, samespace: Run, vectors: Vectors
) -> None:
    nights = [samespace("nightly", "--lake", str(lake), cwd=place)]
    (model,) = samespace("train", "--lake", str(lake), "--tasks", *FEW, cwd=place)["models"].values()
    nights.append(samespace("nightly", "--lake", str(lake), "--full", cwd=place))
    workspace = Workspace.open(str(place / "ws"))
    before, after = (workspace.release(night["release_id"]) for night in nights)
    assert before.plan.model_id == after.plan.model_id != model
    assert {entry.path for entry in before.completed_files()} == {entry.path for entry in after.completed_files()}
    assert nights[0]["stages"].keys() == nights[1]["stages"].keys()
    np.testing.assert_array_equal(vectors(before, "member")[1], vectors(after, "member")[1])

    own = ("--workspace", "plays", "--set", f"encode.model={place}/ws/models/{model}")
    samespace("nightly", "--lake", str(lake), *own, cwd=place)
    assert Workspace.open(str(place / "plays")).current().plan.model_id == model
    assert workspace.current().release_id == after.release_id
