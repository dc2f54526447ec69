import dataclasses

import numpy as np
import pytest
import torch

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.network import TimeBias, Transformer
from embeddings.foundation.sequences import TokenSequences, gap_codes
from embeddings.foundation.vocabulary import Vocabulary


@pytest.fixture(params=["transformer", "hstu"])
def block(request):
    """Both kinds of block."""
    return request.param


@pytest.mark.parametrize("time_bias", [True, False])
def test_no_state_changes_when_later_positions_change(time_bias, block):
    torch.manual_seed(0)
    network = Transformer(NetworkConfig(width=16, dim=8, time_bias=time_bias, block_type=block)).eval()
    if network.time is not None:
        torch.nn.init.normal_(network.time.table)
    x, times = torch.randn(2, 10, 16), torch.arange(10).expand(2, 10) * 1000
    for t in range(1, 10):
        changed, later = x.clone(), times.clone()
        changed[:, t:] = torch.randn(2, 10 - t, 16)
        later[:, t:] += 10**6
        torch.testing.assert_close(network(changed, later)[:, :t], network(x, times)[:, :t])


def test_no_state_changes_when_later_events_change(make, catalogue, block):
    """Through the whole path: history table, tokens, windows, transformer; position t may see event t - 1 at most."""
    config = make.config()
    config = config.model_copy(update={"network": config.network.model_copy(update={"block_type": block})})
    sequence = make.walks(members=1, length=9)[0]
    original = make.histories([sequence])
    vocabulary = Vocabulary.build(make.histories(make.walks()), catalogue, config)
    torch.manual_seed(0)
    model = FoundationModel(config.network, vocabulary, 16, 0.05).eval()

    def states(histories):
        tokens = TokenSequences.of(histories, vocabulary)
        batch = tokens.windows(tokens.starts[:-1], np.diff(tokens.starts))
        drop = torch.ones(batch.titles.shape, dtype=torch.bool)
        return model.members(batch, model.known_titles()[0], batch.titles, drop)[0].detach()

    for t in range(1, 9):
        changed = make.histories(
            [[*sequence[:t], *reversed(sequence[t:])]],
            actions=[1] * t + [5] * (9 - t),
            duration_s=[600.0] * t + [9.0] * (9 - t),
        )
        torch.testing.assert_close(states(changed)[: t + 1], states(original)[: t + 1])
    other = make.histories([[sequence[1], *sequence[1:]]])
    assert not torch.allclose(states(other)[1:], states(original)[1:])


def test_the_request_is_seen_unless_it_is_dropped(make, catalogue):
    config = make.config()
    histories = make.histories([[100, 101, 102]], device=["tv", "phone", "tv"])
    vocabulary = Vocabulary.build(histories, catalogue, config)
    tokens = TokenSequences.of(histories, vocabulary)
    batch = tokens.windows(tokens.starts[:-1], np.diff(tokens.starts))
    swapped = dataclasses.replace(batch, codes=batch.codes.clone())
    swapped.codes[:, 1, 5] = 1
    model = FoundationModel(config.network, vocabulary, 16, 0.05).eval()
    titles = model.known_titles()[0]
    for dropped in (True, False):
        drop = torch.full(batch.titles.shape, dropped)
        same = torch.allclose(*(model.members(one, titles, one.titles, drop) for one in (batch, swapped)))
        assert same == dropped


def test_the_time_bias_is_that_of_the_log_bucket_and_so_is_its_gradient():
    torch.manual_seed(0)
    bias = TimeBias(2)
    torch.nn.init.normal_(bias.table)
    seconds = np.sort(np.random.default_rng(0).integers(0, 10**9, (3, 12)) // 7**2, axis=1)
    seconds[:, 3:5] = seconds[:, 3:4]
    found = bias(torch.from_numpy(seconds))
    spans = np.maximum(seconds[:, :, None] - seconds[:, None, :], 0)
    plain = bias.table.detach().clone().requires_grad_()
    expected = plain[torch.from_numpy(gap_codes(spans))].permute(0, 3, 1, 2)
    seen = torch.ones(12, 12, dtype=torch.bool).tril()
    assert torch.equal(found.isfinite(), seen.expand_as(found))
    torch.testing.assert_close(found[..., seen], expected[..., seen])
    weights = torch.randn_like(found)[..., seen]
    (found[..., seen] * weights).sum().backward()
    (expected[..., seen] * weights).sum().backward()
    torch.testing.assert_close(bias.table.grad, plain.grad)
