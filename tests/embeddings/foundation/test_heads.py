import numpy as np
import pytest
import torch

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData


def settings(make, *, hierarchical=False, preferences=True, **training):
    config = make.config(**training)
    network = config.network.model_copy(update={"hierarchical": hierarchical, "preferences": preferences})
    return FoundationConfig(network=network, training=config.training)


def gradient_of_heads(histories, catalogue, config):
    """The gradients that the heads alone leave in the body and in themselves."""
    torch.manual_seed(0)
    lesson = TrainingData.of(histories, catalogue, config, 0)
    learner = TrainStep(lesson.model(config), config.training, 10, 0.0)
    batch = lesson.tokens.windows(lesson.tokens.starts[:8], np.full(8, 6))
    model, asked = learner.model, batch.targets > 0
    inputs, outputs = model.known_titles()
    states = model.members(batch, inputs, batch.titles, torch.ones_like(batch.valid))[asked]
    targets = batch.targets[asked]
    sum(learner._auxiliary(states, targets, outputs[targets - 1], batch.tenths[asked]).values()).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return {name for name in reached if not name.startswith("heads.")}, reached


def test_heads_only_read_unless_their_gradient_is_asked_for(histories, catalogue, make):
    body, reached = gradient_of_heads(histories, catalogue, settings(make, aux_gradient_fraction=0.0))
    assert not body
    assert {"heads.values.genres.weight", "heads.watched.weight"} <= reached
    body, _ = gradient_of_heads(histories, catalogue, settings(make, aux_gradient_fraction=0.5))
    assert {"transformer.blocks.0.attention.qkv.weight", "tower.trust.0.weight"} <= body


def test_only_teachers_teach(histories, catalogue, make):
    """The head of watching through alone looks at the vectors of titles, which the tower mixes."""
    body, reached = gradient_of_heads(
        histories, catalogue, settings(make, aux_gradient_fraction=0.5, aux_heads=("genres",))
    )
    assert "transformer.blocks.0.attention.qkv.weight" in body
    assert "tower.trust.0.weight" not in body
    assert "heads.watched.weight" in reached


def test_a_hierarchical_model_learns_from_what_it_predicts(histories, catalogue, make):
    config = settings(make, hierarchical=True)
    lesson = TrainingData.of(histories, catalogue, config, 0)
    learner = TrainStep(lesson.model(config), config.training, 10, 0.0)
    batch = lesson.tokens.windows(lesson.tokens.starts[:8], np.full(8, 6))
    states = torch.randn(3, config.network.width)
    before = learner.model.vectors(states)
    torch.testing.assert_close(before, learner.model.transformer.vectors(states))
    learner.loss(batch).backward()
    assert learner.model.heads.feeds["genres"].weight.grad.abs().sum() > 0
    learner.step(batch)
    assert not torch.allclose(learner.model.vectors(states), learner.model.transformer.vectors(states))


def test_a_model_without_heads_has_none(histories, catalogue, make):
    config = settings(make, preferences=False)
    model = TrainingData.of(histories, catalogue, config, 0).model(config)
    assert not list(model.heads.parameters())


@pytest.mark.parametrize("listed", [[[1, 0], [2, 0]], [[1, 2], [0, 0]]])
def test_the_loss_of_values_is_the_cross_entropy_with_their_uniform_mix(listed):
    from embeddings.foundation.model import multi_label_loss

    logits, codes = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor(listed)
    mixes = [[0.0] * 3 for _ in listed]
    for mix, row in zip(mixes, listed, strict=True):
        for code in filter(None, row):
            mix[code - 1] = 1 / sum(map(bool, row))
    known = torch.tensor(mixes).sum(dim=1) > 0
    expected = torch.nn.functional.cross_entropy(logits[known], torch.tensor(mixes)[known])
    torch.testing.assert_close(multi_label_loss(logits, codes), expected)
