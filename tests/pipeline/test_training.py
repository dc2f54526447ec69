"""`samespace train --from`: a warm start from a model of the workspace."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from embeddings.encode.config import EncodeConfig
from embeddings.foundation import checkpoint
from embeddings.foundation.trainer import Trainer
from pipeline.cli import main
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.model_training import model_for_tonight
from stores.errors import EncoderError
from stores.releases.workspace import Workspace

SHORT = ["--set", "train.training.min_steps=20", "--set", "train.training.max_steps=20", "--json"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "lake", "--members", "60", "--titles", "40", "--days", "20"]) == 0
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_training_goes_on_from_a_model_of_the_workspace(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--lake", "lake", *SHORT]) == 0
    first = said(capsys)
    assert main(["train", "--lake", "lake", "--from", first["model_id"], *SHORT]) == 0
    second = said(capsys)
    assert second["parent"] == first["model_id"] != second["model_id"]
    assert second["steps"] == 6
    assert json.loads((place / "workspace/models/next.json").read_text())["model_id"] == second["model_id"]


def test_a_model_that_is_not_there_is_said_before_the_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--lake", "lake", "--from", "nobody", *SHORT]) == 2
    assert "there is no model nobody" in said(capsys)["error"]["what"]


DIVERGES = {
    "train": (["--set", "train.training.learning_rate=1e20"], "after step 1 of 20 vectors of"),
    "warm start": (
        ["--from", "{first}", "--set", "train.training.learning_rate=1e20"],
        "after step 1 of 6 vectors of",
    ),
    "fine-tuning": (["--fine-tune", "--set", "train.training.learning_rate=1e38"], "not finite|nan"),
    "tasks": (["--tasks", "--set", "tasks.learning_rate=1e38"], "nan|inf|not finite"),
}


@pytest.mark.parametrize("kind", DIVERGES)
def test_a_training_that_diverges_ends_with_an_error_and_the_night_keeps_its_model(
    place: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words, said_of_it = DIVERGES[kind]
    assert main(["train", "--lake", "lake", *SHORT]) == 0
    first = said(capsys)["model_id"]
    there = sorted(path.name for path in (place / "workspace/models").iterdir())
    assert main(["train", "--lake", "lake", *SHORT, *(word.format(first=first) for word in words)]) == 1
    error = said(capsys)["error"]
    assert re.search(said_of_it, error["what"])
    assert "learning_rate" in error["fix"]
    assert sorted(path.name for path in (place / "workspace/models").iterdir()) == there
    assert json.loads((place / "workspace/models/next.json").read_text())["model_id"] == first


def test_a_model_that_is_not_finite_is_never_named(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were one written all the same: no first model is named, and the night after would refuse to load it."""

    def poisoned(course: Trainer) -> Any:
        model = best(course)
        model.tower.ids.weight.data[3, 0] = float("nan")
        return model

    best = Trainer.best_model
    monkeypatch.setattr(Trainer, "best_model", poisoned)
    monkeypatch.setattr(checkpoint, "require_sound", lambda *_: None)
    assert main(["train", "--lake", "lake", *SHORT]) == 1
    assert "tower.ids.weight" in said(capsys)["error"]["what"]
    assert not (place / "workspace/models/next.json").exists()


def test_waiting_threads_spin_for_a_moment_only() -> None:
    assert 0 < int(os.environ["GOMP_SPINCOUNT"]) <= 20_000


def test_tasks_get_models_of_their_own_and_the_night_keeps_its_own(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--lake", "lake", *SHORT]) == 0
    first = said(capsys)
    short = ["--set", "tasks.steps_per_task=3", "--set", "tasks.rounds=1", "--set", 'tasks.names=["plays","next_id"]']
    assert main(["train", "--lake", "lake", "--tasks", *short, *SHORT]) == 0
    models = said(capsys)["models"]
    assert set(models) == {"plays", "next_id"}
    assert (place / "workspace/models" / models["next_id"] / "generator/ids.parquet").exists()
    assert json.loads((place / "workspace/models/next.json").read_text())["model_id"] == first["model_id"]
    assert main(["train", "--lake", "lake", "--tasks", *short, *SHORT[:-1]]) == 0
    told = capsys.readouterr().out.splitlines()[-2:]
    assert all(f"model {models[task]}  turns █" in line for task, line in zip(models, told, strict=True))


def test_a_model_is_fine_tuned_and_the_night_keeps_its_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--lake", "lake", "--fine-tune", *SHORT]) == 2
    assert "there is no model" in said(capsys)["error"]["what"]
    assert main(["train", "--lake", "lake", *SHORT]) == 0
    first = said(capsys)
    assert main(["train", "--lake", "lake", "--fine-tune", "--set", "train.fine_tune.mode=frozen", *SHORT]) == 0
    second = said(capsys)
    assert second["parent"] == first["model_id"] != second["model_id"]
    assert second["fine_tune"]["mode"] == "frozen"
    assert json.loads((place / "workspace/models/next.json").read_text())["model_id"] == first["model_id"]


class Hangs:
    """Never comes back from loading."""

    def __init__(self) -> None:
        time.sleep(10**6)


def test_an_own_encoder_that_hangs_is_named(tmp_path: Path) -> None:
    encode = EncodeConfig(encoder=f"{__name__}:Hangs", load_timeout_s=0.2)
    with pytest.raises(EncoderError, match=r"after 0\.2 s") as caught:
        model_for_tonight(Config(encode=encode), Workspace.open(str(tmp_path)), None, ConsoleReporter(True))
    assert "Hangs" in caught.value.where
