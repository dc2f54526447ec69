import numpy as np
import pytest
import torch

from embeddings.foundation import FoundationEncoder, checkpoint
from embeddings.foundation.config import FineTuneConfig, FoundationConfig, NetworkConfig
from embeddings.foundation.fine_tuning import LowRankAdapter, add_adapters, count_trainable, fine_tune, merge_adapters
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.vocabulary import Vocabulary
from stores.files.filesystem import Storage

MODES = ("full", "frozen", "adapters")


@pytest.fixture(scope="module")
def application(make):
    """The same titles, walked backwards."""
    return make.histories([walk[4::-1] for walk in make.walks(40, seed=5)])


def tuned(make, application, catalogue, trained, mode, folder, **training):
    config = make.config(**({"max_steps": 100, "warm_start_step_fraction": 1.0} | training))
    config = config.model_copy(update={"fine_tune": FineTuneConfig(mode=mode, rank=2)})
    return fine_tune(application, catalogue, config, 0, Storage(str(folder)), trained[0].path)


@pytest.fixture(scope="module", params=MODES)
def mode_and_model(request, make, application, catalogue, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, tuned(make, application, catalogue, trained, request.param, folder)


def weights(path):
    return checkpoint.load_checkpoint(str(path))[0].model.state_dict()


def test_the_application_is_learned(mode_and_model, trained, application, catalogue, histories):
    mode, model = mode_and_model
    encoder = FoundationEncoder.load(model.path)
    assert encoder.encode_members(application).shape == (40, 8)
    assert model.metrics["parent"] == trained[0].model_id
    assert model.metrics["fine_tune"]["mode"] == mode
    assert model.metrics["trained_until"] == trained[0].metrics["trained_until"]
    if mode != "frozen":
        assert model.metrics["ndcg"] > _before(trained, application, catalogue)


def _before(trained, application, catalogue):
    """NDCG without a cut of the untuned model on the application's last titles."""
    from embeddings.foundation.training_data import TrainingData

    parent = checkpoint.load_checkpoint(trained[0].path)[0]
    return (
        TrainingData.of(application, catalogue, parent.config, 0, parent.vocabulary).validate(parent.model).full_ndcg()
    )


def test_only_what_the_mode_lets_move_has_moved(mode_and_model, trained):
    mode, model = mode_and_model
    before, after = weights(trained[0].path), weights(model.path)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    body = {name for name in moved if name.startswith(("transformer.blocks", "tokens", "tower.ids"))}
    assert "transformer.project.weight" in moved
    assert bool(body) == (mode != "frozen")
    if mode == "adapters":
        biases = {name for name in moved if name.endswith("bias")}
        assert not biases
        change = (
            after["transformer.blocks.0.attention.qkv.weight"] - before["transformer.blocks.0.attention.qkv.weight"]
        )
        assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 2


def test_the_same_seed_gives_the_same_model(make, application, catalogue, trained, tmp_path):
    models = [
        tuned(make, application, catalogue, trained, "adapters", tmp_path / name, max_steps=5)
        for name in ("one", "two")
    ]
    assert models[0].model_id == models[1].model_id


def test_adapters_touch_at_most_a_twentieth_of_a_model_of_the_default_shape(make):
    ids = list(range(100))
    histories, catalogue = make.histories([ids]), make.catalogue(ids, ["a", "b"] * 50)
    config = FoundationConfig()
    vocabulary = Vocabulary.build(histories, catalogue, config)
    model = FoundationModel(config.network, vocabulary, 200, 0.05)
    add_adapters(model, config.fine_tune)
    assert 0 < count_trainable(model)["trained_share"] <= 0.05


def test_new_adapters_change_nothing_and_merging_keeps_what_they_do(make, histories, catalogue):
    config = FoundationConfig(network=NetworkConfig(dim=8, width=16, num_layers=1, text_hash_buckets=16))
    model = FoundationModel(config.network, Vocabulary.build(histories, catalogue, config), 10, 0.05).eval()
    vectors = model.known_titles()[1].detach()
    add_adapters(model, FineTuneConfig(rank=3))
    torch.testing.assert_close(model.known_titles()[1], vectors)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LowRankAdapter):
                layer.up.normal_()
    changed = model.known_titles()[1].detach()
    assert not np.allclose(changed, vectors, atol=1e-3)
    torch.testing.assert_close(merge_adapters(model).known_titles()[1], changed)
    assert not any(isinstance(layer, LowRankAdapter) for layer in model.modules())
