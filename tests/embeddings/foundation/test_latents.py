import numpy as np
import pytest
import torch

from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.model import select_past
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary

LENGTH = 4


def long_config(make, latents, **training):
    config = make.config(**training)
    network = config.network.model_copy(update={"latents": latents, "max_positions": LENGTH, "max_past_events": 100})
    return FoundationConfig(network=network, training=config.training)


@pytest.fixture(scope="module")
def taste_of_long_ago(make):
    """Titles of one half of the catalogue, then ten that say nothing of it, then the same half again."""
    random = np.random.default_rng(0)
    halves = [100 + 12 * (m % 2) + random.permutation(12) for m in range(80)]
    return make.histories([[*half[:4], *random.integers(200, 206, 10), *half[4:8]] for half in halves])


@pytest.fixture(scope="module")
def catalogue(make):
    return make.catalogue([*range(100, 124), *range(200, 206)], ["left"] * 12 + ["right"] * 12 + ["either"] * 6)


@pytest.fixture(scope="module")
def tokens(taste_of_long_ago, catalogue, make):
    return TokenSequences.of(taste_of_long_ago, Vocabulary.build(taste_of_long_ago, catalogue, make.config()))


def test_the_past_is_what_lies_before_the_window(tokens):
    first = tokens.starts[:3] + np.array([0, 2, 9])
    past = select_past(tokens, first, 100)
    assert past.valid.sum(dim=1).tolist() == [0, 2, 9]
    for row, (begin, end) in enumerate(zip(tokens.starts[:3], first, strict=True)):
        assert past.titles[row][past.valid[row]].tolist() == tokens.titles[begin:end].tolist()
        assert (past.ages[row][past.valid[row]].diff() <= 0).all()


def test_too_long_a_past_is_its_end_or_in_training_a_sample_in_order(tokens):
    first = tokens.starts[:3] + 9
    newest = select_past(tokens, first, 4)
    assert newest.titles[0].tolist() == tokens.titles[first[0] - 4 : first[0]].tolist()
    drawn = select_past(tokens, first, 4, np.random.default_rng(0))
    assert drawn.valid.all()
    assert (drawn.ages.diff(dim=1) <= 0).all()
    everything = {*tokens.titles[tokens.starts[0] : first[0]].tolist()}
    assert {*drawn.titles[0].tolist()} <= everything


@pytest.fixture(scope="module")
def pooled(taste_of_long_ago, catalogue, make, tmp_path_factory):
    config = long_config(make, 2, max_steps=300, learning_rate=0.003)
    model = train(taste_of_long_ago, catalogue, config, 0, tmp_path_factory.mktemp("models"))
    return FoundationEncoder.load(model.path)


def told_apart(encoder, histories, catalogue):
    """How often a member of the left half likes it better than one of the right half does: ½ is chance."""
    scores = encoder.encode_members(histories) @ encoder.encode_titles(catalogue).T
    leaning = scores[:, :12].mean(axis=1) - scores[:, 12:24].mean(axis=1)
    return (leaning[::2, None] > leaning[None, 1::2]).mean()


def test_a_taste_older_than_the_window_counts_with_latents(pooled, taste_of_long_ago, catalogue, make, tmp_path):
    before_the_return = make.histories([row[:-4] for row in taste_of_long_ago["title_id"].to_pylist()])
    assert told_apart(pooled, before_the_return, catalogue) > 0.9
    blind = train(taste_of_long_ago, catalogue, long_config(make, 0, max_steps=60), 0, tmp_path)
    assert told_apart(FoundationEncoder.load(blind.path), before_the_return, catalogue) < 0.75


def test_a_member_does_not_depend_on_who_shares_the_batch(pooled, taste_of_long_ago):
    some = taste_of_long_ago.slice(0, 8)
    alone = np.concatenate([pooled.encode_members(some.slice(i, 1)) for i in range(8)])
    np.testing.assert_allclose(pooled.encode_members(some), alone, atol=1e-5)


def test_what_lies_before_the_past_that_is_pooled_does_not_count(pooled, make):
    tail = [100 + i % 12 for i in range(LENGTH + 100)]
    one, other = (pooled.encode_members(make.histories([[title, *tail]])) for title in (110, 205))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_empty_history_has_a_vector(pooled, make):
    assert np.isfinite(pooled.encode_members(make.histories([[], [100]]))).all()
    assert torch.isfinite(torch.from_numpy(pooled.encode_members(make.histories([[999] * 9])))).all()
