"""One step of training: what its loss is made of."""

import numpy as np
import pytest
import torch

from embeddings.foundation import loss as loss_module
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData


def test_nested_targets_ask_the_whole_vector_and_its_first_half_alike(make, histories, catalogue, monkeypatch):
    monkeypatch.setattr(loss_module, "MATMUL_DTYPE", torch.float32)

    def loss(nested, width=None):
        torch.manual_seed(0)
        config = make.config(matryoshka=nested, cold_start_loss_weight=0.0, aux_gradient_fraction=0.0)
        lesson = TrainingData.of(histories, catalogue, config, 0)
        learner = TrainStep(lesson.model(config), config.training, 1, id_dropout=0.0)
        learner.model.eval()
        if width:
            vectors = learner.model.vectors
            monkeypatch.setattr(learner.model, "vectors", lambda states: vectors(states) * (torch.arange(8) < width))
        monkeypatch.setattr(learner.model.heads, "losses", lambda *given: {})
        torch.manual_seed(1)
        return learner.loss(lesson.tokens.windows(lesson.tokens.starts[:8], np.full(8, 6))).item()

    assert loss(True) == pytest.approx((loss(False) + loss(False, width=4)) / 2, rel=1e-5)
