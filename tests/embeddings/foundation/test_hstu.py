"""HSTU blocks behind the interface of the others: what the formula says, whoever shares a batch, to disk and back."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from embeddings.foundation import FoundationEncoder, checkpoint, train
from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.encode import member_states
from embeddings.foundation.inference import LastPositionForward
from embeddings.foundation.network import HSTUBlock
from embeddings.foundation.sequences import TokenSequences


def test_a_block_is_the_formula_position_by_position():
    torch.manual_seed(0)
    block = HSTUBlock(NetworkConfig(width=8, num_heads=2)).eval()
    x, bias = torch.randn(1, 5, 8), torch.randn(1, 2, 5, 5)
    u, v, q, k = (part.view(5, 2, 4) for part in functional.silu(block.uvqk(block.norm(x)))[0].split(8, dim=1))
    expected = torch.zeros(5, 8)
    for t in range(5):
        mixed = torch.zeros(2, 4)
        for head in range(2):
            for s in range(t + 1):
                mixed[head] += functional.silu(q[t, head] @ k[s, head] + bias[0, head, t, s]) * v[s, head]
        expected[t] = x[0, t] + block.down(block.norm_mixed(mixed.flatten()) * u[t].flatten())
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(block(x, bias.masked_fill(later, float("-inf")))[0], expected)


def test_what_is_hidden_leaves_every_gradient_a_number():
    block = HSTUBlock(NetworkConfig(width=8, num_heads=2))
    bias = torch.zeros(1, 2, 4, 4).masked_fill(torch.ones(4, 4, dtype=torch.bool).triu(1), float("-inf"))
    block(torch.randn(1, 4, 8), bias.requires_grad_()).sum().backward()
    assert bias.grad.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in block.parameters())


@pytest.fixture(scope="module")
def model(histories, catalogue, make, tmp_path_factory):
    config = make.config(max_steps=60)
    config = config.model_copy(update={"network": config.network.model_copy(update={"block_type": "hstu"})})
    return train(histories, catalogue, config, 0, tmp_path_factory.mktemp("models"))


def test_it_learns_and_is_read_back(model, histories, catalogue):
    assert model.metrics["hr@10"] > model.metrics["baselines"]["popularity"]["hr@10"]
    encoder = FoundationEncoder.load(model.path)
    assert encoder.encode_members(histories).shape == (len(histories), 8)
    assert encoder.fast_precision == "fp32"


def test_the_fast_pass_leaves_it_to_the_modules_and_vectors_depend_on_nobody_else(model, make):
    trained = checkpoint.load_checkpoint(model.path)[0]
    assert not LastPositionForward.supports(trained.model)
    walks = make.histories([walk[: 1 + i % 9] for i, walk in enumerate(make.walks(30))])
    together = member_states(trained.model, TokenSequences.of(walks, trained.vocabulary))
    for row in (0, 4, 29):
        alone = member_states(trained.model, TokenSequences.of(walks.slice(row, 1), trained.vocabulary))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)
