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


@pytest.fixture
def told(make, catalogue, tmp_path):
    """told(histories): what two processes say that learn from them."""

    def run(histories, **training):
        config = make.config(max_steps=12, evaluations=2, **training).model_copy(update={"workers": 2})
        (tmp_path / "config.json").write_text(config.model_dump_json())
        pq.write_table(histories, tmp_path / "histories.parquet")
        pq.write_table(catalogue, tmp_path / "catalogue.parquet")
        command = [sys.executable, "-W", "ignore", str(HERE / "team_of_processes.py"), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "RAY_worker_niceness": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_workers_train_one_model(told, histories, tmp_path):
    """That all have the same weights is checked by every training itself, before it writes them."""
    model = told(histories)
    assert model["steps"] == 12
    assert FoundationEncoder.load(model["path"]).encode_members(histories).shape == (len(histories), 8)
    assert not list((tmp_path / "models").glob("unfinished-*"))


def test_workers_that_diverge_stop_together_and_leave_no_model(told, histories, tmp_path):
    error = told(histories, learning_rate=1e20)
    assert error["error"] == "TrainingError"
    assert "step 2 of 12 the loss is nan" in error["what"]
    assert list((tmp_path / "models").iterdir()) == []


def test_an_error_in_a_worker_is_told_as_it_is(told, make):
    error = told(make.histories([[100]]))
    assert error["error"] == "ContractError"
    assert "nothing to learn" in error["what"]
