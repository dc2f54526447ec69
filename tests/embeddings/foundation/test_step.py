"""One step of training: what its loss is made of."""

import numpy as np
import pytest
import torch

from embeddings.foundation import objective
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.step import Learner


def test_nested_targets_ask_the_whole_vector_and_its_first_half_alike(make, histories, catalogue, monkeypatch):
    monkeypatch.setattr(objective, "PRODUCTS", torch.float32)

    def loss(nested, width=None):
        torch.manual_seed(0)
        config = make.config(nested=nested, stand_in=0.0, auxiliary=0.0)
        lesson = Lesson.of(histories, catalogue, config, 0)
        learner = Learner(lesson.model(config), config.training, 1, masked_share=0.0)
        learner.model.eval()
        if width:
            vectors = learner.model.vectors
            monkeypatch.setattr(learner.model, "vectors", lambda states: vectors(states) * (torch.arange(8) < width))
        monkeypatch.setattr(learner.model.heads, "losses", lambda *given: {})
        torch.manual_seed(1)
        return learner.loss(lesson.tokens.windows(lesson.tokens.starts[:8], np.full(8, 6))).item()

    assert loss(True) == pytest.approx((loss(False) + loss(False, width=4)) / 2, rel=1e-5)
