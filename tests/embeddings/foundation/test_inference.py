"""The fast forward pass: the model's own answer, whatever else is in the batch, also where memory is short."""

import numpy as np
import pytest
import torch

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.encoding import batches_of, padded_lengths, plain_states, states_of
from embeddings.foundation.inference import Inference
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tokens import Tokens


@pytest.fixture(scope="module")
def mixed(trained, make):
    """Histories of many lengths, an empty one and one longer than the model sees; their tokens."""
    walks = make.walks(members=90, length=40)
    histories = make.histories([walk[: (7 * i) % 41] for i, walk in enumerate(walks)], actions=_actions(walks))
    return Tokens.of(histories, trained[1]._trained.vocabulary)


def _actions(walks):
    total = sum((7 * i) % 41 for i in range(len(walks)))
    return np.resize([1, 3, 4096, 2**20 + 5, 0], total).astype(np.int32)


@pytest.fixture(params=[1, 2, 3], ids=lambda blocks: f"{blocks} blocks")
def model(request, trained):
    """Networks of several depths with all weights away from their start, the last one without a time bias."""
    checkpoint = trained[1]._trained
    config = NetworkConfig(blocks=request.param, dim=16, width=24, heads=2, time_bias=request.param < 3)
    torch.manual_seed(request.param)
    model = FoundationModel(config, checkpoint.vocabulary, 24, 0.05).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_it_gives_what_the_modules_of_the_model_give(model, mixed):
    np.testing.assert_allclose(states_of(Inference(model), mixed), plain_states(model, mixed), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_vector_is_the_same_whoever_else_is_encoded(trained, make, dtype):
    checkpoint = trained[1]._trained
    inference = Inference(checkpoint.model, dtype)
    walks = make.walks(members=60, length=20)
    histories = make.histories([walk[: 1 + i % 20] for i, walk in enumerate(walks)])
    together = states_of(inference, Tokens.of(histories, checkpoint.vocabulary))
    for some in ([3], [5, 17], range(0, 60, 7)):
        alone = states_of(inference, Tokens.of(histories.take(list(some)), checkpoint.vocabulary))
        np.testing.assert_allclose(alone, together[list(some)], atol=1e-6)


def test_reduced_precision_keeps_the_direction(model, mixed):
    exact, reduced = states_of(Inference(model), mixed), states_of(Inference(model, torch.bfloat16), mixed)
    assert torch.nn.functional.cosine_similarity(exact, reduced).min() > 0.999


def test_only_the_latest_tokens_are_looked_at(trained, make):
    checkpoint = trained[1]._trained
    length = checkpoint.model.length
    histories = make.histories([[100 + i % 12 for i in range(n)] for n in (3, 5 * length, length + 1, 0)])
    inference = Inference(checkpoint.model)
    short = Tokens.of(histories, checkpoint.vocabulary, length + 1)
    assert short.lengths.max() == length + 1
    assert torch.equal(states_of(inference, short), states_of(inference, Tokens.of(histories, checkpoint.vocabulary)))


def test_a_batch_that_does_not_fit_is_halved(model, mixed, monkeypatch):
    inference, states = Inference(model), Inference.states
    expected, sizes = states_of(inference, mixed), []

    def short_of_memory(self, windows):
        sizes.append(len(windows.last))
        if sizes[-1] > 12:
            raise torch.OutOfMemoryError("no room")
        return states(self, windows)

    monkeypatch.setattr(Inference, "states", short_of_memory)
    np.testing.assert_allclose(states_of(inference, mixed), expected, atol=1e-6)
    assert max(sizes) > 24  # one of the batches was halved twice


def test_one_member_that_never_fits_is_a_plain_memory_error(model, mixed, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Inference, "states", never)
    with pytest.raises(MemoryError, match="one member"):
        states_of(Inference(model), mixed)


def test_padding_follows_from_the_length_alone_and_is_small():
    lengths = np.arange(1, 501)
    padded = padded_lengths(lengths, 500)
    assert (padded >= lengths).all()
    assert padded.max() == 500
    assert ((padded - lengths) <= np.maximum(3, lengths / 8)).all()


def test_batches_cover_every_row_once_within_the_budget():
    padded = np.resize([4, 8, 12, 200], 1000)
    batches = list(batches_of(padded, 240))
    assert sorted(np.concatenate(batches)) == list(range(1000))
    for rows in batches:
        assert len(set(padded[rows])) == 1
        assert len(rows) == 1 or padded[rows].sum() <= 240
    assert list(batches_of(np.zeros(0, np.int64), 10)) == []
