"""Several processes that train one model, through Ray's trainer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embeddings.foundation import FoundationEncoder

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def told(make, histories, catalogue, tmp_path_factory):
    """By case, what two processes say that learn together, and the folder of their models."""
    cases = {
        "sound": (histories, {}),
        "diverging": (histories, {"learning_rate": 1e20}),
        "nothing to learn": (make.histories([[100]]), {}),
    }
    places = {case: tmp_path_factory.mktemp("team") for case in cases}
    for case, (some, training) in cases.items():
        config = make.config(max_steps=12, num_validations=2, **training).model_copy(update={"workers": 2})
        (places[case] / "config.json").write_text(config.model_dump_json())
        pq.write_table(some, places[case] / "histories.parquet")
        pq.write_table(catalogue, places[case] / "catalogue.parquet")
    command = [sys.executable, "-W", "ignore", str(HERE / "team_of_processes.py"), *map(str, places.values())]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "RAY_worker_niceness": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {case: (line, places[case] / "models") for case, line in zip(cases, lines, strict=True)}


def test_workers_train_one_model(told, histories):
    """That all have the same weights is checked by every training itself, before it writes them."""
    model, models = told["sound"]
    assert model["steps"] == 12
    assert FoundationEncoder.load(model["path"]).encode_members(histories).shape == (len(histories), 8)
    assert not list(models.glob("unfinished-*"))


def test_workers_that_diverge_stop_together_and_leave_no_model(told):
    error, models = told["diverging"]
    assert error["error"] == "TrainingError"
    assert "step 2 of 12 the loss is nan" in error["what"]
    assert list(models.iterdir()) == []


def test_an_error_in_a_worker_is_told_as_it_is(told):
    error, _ = told["nothing to learn"]
    assert error["error"] == "ContractError"
    assert "nothing to learn" in error["what"]
