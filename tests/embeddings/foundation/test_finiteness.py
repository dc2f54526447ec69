"""A training whose numbers are not finite ends with an error that names them, and leaves no model behind."""

import copy
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load, save

from embeddings.foundation import FoundationEncoder, checkpoint, train, train_and_evaluate
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FineTuneConfig
from embeddings.foundation.fine_tuning import fine_tune
from embeddings.foundation.finiteness import find_model_fault, find_vectors_fault, nonfinite_names
from embeddings.foundation.semantic_ids import SemanticIds
from embeddings.foundation.train_state import TrainStateFile
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData
from stores.errors import EncoderError, TrainingError
from stores.files.filesystem import Storage, sha256

INF = float("inf")
DIVERGES = [
    ({"learning_rate": 1e20}, r"step 2 of 6 the loss is nan \(next title nan"),
    ({"weight_decay": 1e30}, r"step 2 of 6 the loss is nan"),
    ({"cold_start_loss_weight": INF}, r"step 1 of 6 the loss is inf \(next title \d.*genres \d.*stand_in inf\)"),
    ({"temperature": INF}, r"averaged weights are not finite: log_temperature"),
    ({"learning_rate": 1e20, "max_steps": 1}, r"after step 1 of 1 vectors of \d+ of \d+ held-out members"),
]


@pytest.mark.parametrize(("settings", "said"), DIVERGES)
def test_a_training_that_diverges_names_step_and_term_and_leaves_nothing(
    histories, catalogue, make, tmp_path, settings, said
):
    config = make.config(**({"max_steps": 6} | settings))
    with pytest.raises(TrainingError, match=said) as caught:
        train(histories, catalogue, config, 0, tmp_path)
    assert "learning_rate" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_of_a_training_that_diverges_later_goes_too(histories, catalogue, make, tmp_path, monkeypatch):
    saved, real = [], TrainStep.loss

    def loss(self, batch):
        return real(self, batch) * (np.nan if self.steps_done == 4 else 1)

    monkeypatch.setattr(TrainStep, "loss", loss)
    monkeypatch.setattr(TrainStateFile, "save", lambda self, *_: saved.append(self.models.write(self.name, b"state")))
    with pytest.raises(TrainingError, match="step 5 of 6"):
        train(histories, catalogue, make.config(max_steps=6), 0, tmp_path)
    assert len(saved) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split"])
def test_the_training_of_an_evaluation_too(histories, catalogue, make, protocol):
    with pytest.raises(TrainingError, match="next title nan"):
        train_and_evaluate(histories, catalogue, make.config(max_steps=6, learning_rate=1e20), 0, protocol)


def test_a_warm_start_too(histories, catalogue, make, trained, tmp_path):
    config = make.config(max_steps=6, warm_start_step_fraction=1.0, learning_rate=1e20)
    with pytest.raises(TrainingError, match="next title nan"):
        train(histories, catalogue, config, 0, tmp_path, parent=trained[0].path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["full", "frozen", "adapters"])
def test_a_fine_tuning_too(histories, catalogue, make, trained, tmp_path, mode):
    config = make.config(max_steps=6, warm_start_step_fraction=1.0, learning_rate=1e38)
    config = config.model_copy(update={"fine_tune": FineTuneConfig(mode=mode, rank=2)})
    with pytest.raises(TrainingError, match=r"nan|not finite"):
        fine_tune(histories, catalogue, config, 0, Storage(str(tmp_path)), trained[0].path)
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_that_is_not_finite_is_named_and_moves_no_weight(histories, catalogue, make):
    config = make.config()
    lesson = TrainingData.of(histories, catalogue, config, 0)
    learner = TrainStep(lesson.model(config), config.training, 10, 0.1)
    learner.model.tokens.title.weight.register_hook(lambda gradient: gradient * np.nan)
    before = copy.deepcopy(learner.model.state_dict())
    batch = lesson.tokens.windows(lesson.tokens.starts[:8], np.full(8, 6))
    with pytest.raises(TrainingError, match=r"step 1 of 10 the norm of the gradient is nan \(tokens\.title\.weight\)"):
        learner.step(batch)
    assert all(torch.equal(before[name], weight) for name, weight in learner.model.state_dict().items())
    assert learner.steps_done == 0


# --- models


def spoiled(trained, change):
    """A copy of a sound model, changed."""
    found = copy.deepcopy(trained[1]._trained)
    with torch.no_grad():
        change(found.model)
    return found


def not_a_number(model):
    model.transformer.blocks[0].feed.down.weight[0, 0] = np.nan


def one_title(model):
    """All titles alike: no ids, no metadata."""
    model.tower.ids.weight[:] = 1.0
    model.tower.metadata.project.weight.zero_()
    model.tower.metadata.project.bias.zero_()


def one_member(model):
    model.transformer.project.weight.zero_()
    model.transformer.project.bias.fill_(1.0)


def too_large(model):
    model.tower.ids.weight.fill_(1e30)
    model.tower.ids.weight[::2] *= -1


SPOILED = [
    (not_a_number, r"weights are not finite: transformer\.blocks\.0\.feed\.down\.weight"),
    (one_title, "all 24 titles have the same vector"),
    (one_member, "all 24 members have the same vector"),
    (too_large, "not finite|same vector"),
]


@pytest.mark.parametrize(("change", "said"), SPOILED)
def test_a_model_that_can_be_of_no_use_is_not_written(trained, tmp_path, change, said):
    with pytest.raises(TrainingError, match=said):
        checkpoint.save_checkpoint(spoiled(trained, change), Storage(str(tmp_path)), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("change", "said"), SPOILED)
def test_one_that_lies_there_all_the_same_can_not_be_named(trained, tmp_path, monkeypatch, change, said):
    monkeypatch.setattr(checkpoint, "require_sound", lambda *_: None)
    model_id = checkpoint.save_checkpoint(spoiled(trained, change), Storage(str(tmp_path)), {})
    with pytest.raises(EncoderError, match=said):
        checkpoint.verify(str(tmp_path / model_id))


def test_weights_that_are_not_finite_are_not_loaded(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "require_sound", lambda *_: None)
    model_id = checkpoint.save_checkpoint(spoiled(trained, not_a_number), Storage(str(tmp_path)), {})
    with pytest.raises(EncoderError, match=r"feed\.down\.weight") as caught:
        FoundationEncoder.load(tmp_path / model_id)
    assert model_id in caught.value.where
    with pytest.raises(EncoderError, match=r"feed\.down\.weight"):
        train(pa.table({}), pa.table({}), trained[1]._trained.config, 0, tmp_path, parent=tmp_path / model_id)


def test_a_sound_model_has_no_fault(trained):
    assert find_model_fault(trained[1]._trained.model) == ""
    assert checkpoint.verify(trained[0].path) == trained[0].model_id


def test_the_features_of_titles_count_as_weights(trained):
    found = spoiled(trained, lambda model: model.known_signals.fill_(INF))
    assert "known_signals" in find_model_fault(found.model)


def test_names_of_what_is_not_finite():
    tensors = {"a": torch.ones(2), "b": torch.tensor([1.0, np.nan]), "c": torch.tensor([[-INF]]), "d": torch.arange(3)}
    assert nonfinite_names(tensors.items()) == ["b", "c"]
    assert find_vectors_fault(np.eye(3, dtype=np.float32), "titles") == ""
    assert find_vectors_fault(np.ones((1, 3), np.float32), "titles") == ""
    assert "1 of 2" in find_vectors_fault(np.array([[1, 0], [np.nan, 0]], np.float32), "titles")
    assert find_vectors_fault(np.zeros((2, 3), np.float32), "titles") != ""


def test_the_metrics_of_a_model_are_numbers(trained):
    text = (Path(trained[0].path) / "metrics.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


# --- semantic ids and states of interrupted trainings


def test_semantic_ids_of_vectors_that_are_not_finite_are_refused():
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    ids = SemanticIds.fit(vectors)
    vectors[5, 1] = np.nan
    for made in (SemanticIds.fit, ids.codes, ids.assign):
        with pytest.raises(EncoderError, match=r"1 of 12 .* row 5"):
            made(vectors)


def test_a_damaged_state_of_an_interrupted_training_is_not_gone_on_from(
    histories, catalogue, make, tmp_path, monkeypatch, caplog
):
    config = make.config(max_steps=3)
    whole = train(histories, catalogue, config, 0, tmp_path / "whole")
    names = []
    real = TrainStateFile.load

    def damaged(self):
        names.append(self.name)
        self.models.write(self.name, b"half a file")
        return real(self)

    monkeypatch.setattr(TrainStateFile, "load", damaged)
    again = train(histories, catalogue, config, 0, tmp_path / "damaged")
    assert again.model_id == whole.model_id
    assert names[0] in caplog.text
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [again.model_id]


def test_a_generator_with_weights_that_are_not_finite_is_not_loaded(trained, tmp_path):
    from embeddings.foundation.semantic_id_generation import FOLDER, Generator, IdHead

    found: Checkpoint = trained[1]._trained
    vectors = trained[1].encode_titles(_catalogue_of(found))
    books = SemanticIds.fit(vectors)
    model_id = checkpoint.save_checkpoint(found, Storage(str(tmp_path)), {})
    folder = Storage(str(tmp_path / model_id))
    Generator(found, IdHead(books), books, books.assign(vectors)).save(folder)
    assert Generator.load(tmp_path / model_id).books.levels == books.levels
    path = f"{FOLDER}/weights.safetensors"
    tensors = load(folder.read(path))
    tensors["bias"][0, 0] = np.nan
    hashes = json.loads(folder.read(f"{FOLDER}/hashes.json"))
    folder.write(path, save(tensors))
    folder.write(f"{FOLDER}/hashes.json", json.dumps(hashes | {path: sha256(save(tensors))}).encode())
    with pytest.raises(EncoderError, match="bias"):
        Generator.load(tmp_path / model_id)


def _catalogue_of(found):
    from stores.schema import catalogue_schema

    schema = catalogue_schema(pa.int64())
    ids = found.vocabulary.title_ids
    return pa.table(
        {f.name: ids if f.name == "title_id" else pa.nulls(len(ids), f.type) for f in schema}, schema=schema
    )
