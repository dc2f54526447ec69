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
    return make.config(max_steps=40, evaluations=8, future_share=0.3)


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
        {"config": make.config(max_steps=39, evaluations=8, future_share=0.3)},
        {"histories": histories.slice(1)},
        {"parent": trained[0].path},
    ]
    for other in others:
        told = []
        settings = {"histories": histories, "config": config, "seed": 0, "parent": None} | other
        train(catalogue=catalogue, out=tmp_path, progress=told.append, **settings)
        assert told[0].step == 1
    assert len(unfinished(tmp_path)) == 1
