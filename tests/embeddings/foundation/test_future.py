import numpy as np
import pytest

from embeddings.foundation.batches import FutureTargets, endless_batches
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary

HOUR = 3600


@pytest.fixture(scope="module")
def tokens(catalogue, make):
    """Members of 6, 1 and 4 tokens, an hour apart."""
    histories = make.histories([[100, 101, 102, 103, 104, 105], [106], [107, 108, 107, 108]], gap=HOUR)
    return TokenSequences.of(histories, Vocabulary.build(histories, catalogue, make.config()))


def draws(tokens, hours, share=1.0):
    future, random = FutureTargets.of(tokens, hours), np.random.default_rng(0)
    own = tokens.targets[None, : tokens.lengths[0]]
    return own[0], np.concatenate([future.draw(own, tokens.starts[:1], share, random) for _ in range(200)])


@pytest.mark.parametrize(("hours", "nearest", "farthest"), [((0, 2), 1, 2), ((1, 3), 2, 3), ((0, 100), 1, 9)])
def test_drawn_targets_are_those_met_within_the_window(tokens, hours, nearest, farthest):
    own, drawn = draws(tokens, hours)
    for place in range(1, len(own)):
        # From the end of the title before, an hour leads to the next title.
        later = set(own[place + nearest - 1 : place + farthest])
        assert set(drawn[:, place]) == (later or {own[place]})


def test_a_share_keeps_the_next_title(tokens):
    own, drawn = draws(tokens, (1, 100), share=0.3)
    kept = (drawn[:, 1:-1] == own[1:-1]).mean()
    assert 0.6 < kept < 0.8


def test_no_window_is_the_next_title_alone(tokens):
    own, drawn = draws(tokens, (0.1, 0.5))
    assert (drawn == own).all()


def test_members_are_not_mixed_and_nothing_is_asked_where_nothing_was(tokens):
    future, random = FutureTargets.of(tokens, (0, 1000)), np.random.default_rng(0)
    owner = np.repeat(np.arange(3), np.diff(tokens.starts))
    inside = future.first <= future.last
    assert (owner[future.first] == owner)[inside].all()
    assert (owner[future.last] == owner)[inside].all()
    drawn = future.draw(tokens.targets[None, :], np.zeros(1, np.int64), 1.0, random)
    assert ((drawn[0] > 0) == (tokens.targets > 0)).all()


def test_batches_carry_them(tokens, make):
    one = next(
        endless_batches(
            tokens, 8, make.config(future_target_fraction=1.0, future_window_hours=(1, 72), batch_tokens=64).training, 0
        )
    )
    two = next(endless_batches(tokens, 8, make.config(batch_tokens=64).training, 0))
    assert (one.titles == two.titles).all()
    assert (one.targets != two.targets).any()
