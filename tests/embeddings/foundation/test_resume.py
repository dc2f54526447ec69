import subprocess
import sys

import pyarrow.feather as feather
import pytest

from embeddings.foundation import train

KILLED_AT = 23


class Killed(BaseException):
    """Stands for a kill: nothing in the training may catch it."""


def kill(state):
    if state.step == KILLED_AT:
        raise Killed


@pytest.fixture(scope="module")
def config(make):
    return make.config(max_steps=40, num_validations=8, future_target_fraction=0.3)


def unfinished(folder):
    return list(folder.glob("unfinished-*"))


def test_a_killed_training_goes_on_and_ends_at_the_same_weights(histories, catalogue, config, tmp_path):
    whole = train(histories, catalogue, config, 0, tmp_path / "whole")
    with pytest.raises(Killed):
        train(histories, catalogue, config, 0, tmp_path / "killed", kill)
    assert len(unfinished(tmp_path / "killed")) == 1
    told = []
    again = train(histories, catalogue, config, 0, tmp_path / "killed", told.append)
    assert told[0].step == 21
    assert again.model_id == whole.model_id
    assert {name: again.metrics[name] for name in ("ndcg", "best_step", "steps")} == {
        name: whole.metrics[name] for name in ("ndcg", "best_step", "steps")
    }
    assert unfinished(tmp_path / "killed") == []


def test_nothing_else_goes_on_from_it(trained, histories, catalogue, config, make, tmp_path):
    with pytest.raises(Killed):
        train(histories, catalogue, config, 0, tmp_path, kill)
    others = [
        {"seed": 1},
        {"config": make.config(max_steps=39, num_validations=8, future_target_fraction=0.3)},
        {"histories": histories.slice(1)},
        {"parent": trained[0].path},
    ]
    for other in others:
        told = []
        settings = {"histories": histories, "config": config, "seed": 0, "parent": None} | other
        train(catalogue=catalogue, out=tmp_path, progress=told.append, **settings)
        assert told[0].step == 1
    assert len(unfinished(tmp_path)) == 1


KILL_ITSELF = """
import os, signal, sys
import pyarrow.feather as feather
from embeddings.foundation import FoundationConfig, train

folder, config = sys.argv[1:]
histories, catalogue = (feather.read_table(f"{folder}/{name}") for name in ("histories", "catalogue"))

def kill(state):
    if state.step == 23:
        os.kill(os.getpid(), signal.SIGKILL)

train(histories, catalogue, FoundationConfig.model_validate_json(config), 0, f"{folder}/killed", kill)
"""


@pytest.mark.slow
def test_a_process_that_was_really_killed(histories, catalogue, config, tmp_path):
    for name, table in (("histories", histories), ("catalogue", catalogue)):
        feather.write_feather(table, tmp_path / name)
    words = [sys.executable, "-c", KILL_ITSELF, str(tmp_path), config.model_dump_json()]
    assert subprocess.run(words, check=False).returncode == -9
    assert len(unfinished(tmp_path / "killed")) == 1
    told = []
    again = train(histories, catalogue, config, 0, tmp_path / "killed", told.append)
    assert told[0].step == 21
    assert again.model_id == train(histories, catalogue, config, 0, tmp_path / "whole").model_id
