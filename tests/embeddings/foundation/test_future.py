import numpy as np
import pytest

from embeddings.foundation.batches import endless
from embeddings.foundation.future import Future
from embeddings.foundation.tokens import Tokens
from embeddings.foundation.vocabulary import Vocabulary

HOUR = 3600


@pytest.fixture(scope="module")
def tokens(catalogue, make):
    """Members of 6, 1 and 4 tokens, an hour apart."""
    histories = make.histories([[100, 101, 102, 103, 104, 105], [106], [107, 108, 107, 108]], gap=HOUR)
    return Tokens.of(histories, Vocabulary.build(histories, catalogue, make.config()))


def draws(tokens, hours, share=1.0):
    future, random = Future.of(tokens, hours), np.random.default_rng(0)
    first = tokens.starts[:1]
    own = tokens.targets[None, : tokens.lengths[0]]
    return own, np.concatenate([future.draw(own, first, share, random) for _ in range(200)])


def test_drawn_targets_are_those_met_within_the_window(tokens):
    own, drawn = draws(tokens, hours=2)
    for place, row in enumerate(own[0]):
        # From after the title before: two hours reach two titles, the one that is next and one more.
        reach = 2 if place else 3
        later = set(own[0][place + 1 : place + reach])
        assert set(drawn[:, place]) == (later or {row})


def test_a_share_keeps_the_next_title(tokens):
    own, drawn = draws(tokens, hours=100, share=0.3)
    kept = (drawn[:, :-1] == own[:, :-1]).mean()
    assert 0.6 < kept < 0.8


def test_no_window_is_the_next_title_alone(tokens):
    own, drawn = draws(tokens, hours=0.5)
    assert (drawn[:, 1:] == own[:, 1:]).all()


def test_members_are_not_mixed_and_nothing_is_asked_where_nothing_was(tokens):
    future, random = Future.of(tokens, 1000), np.random.default_rng(0)
    owner = np.repeat(np.arange(3), np.diff(tokens.starts))
    assert (owner[future.last] == owner).all()
    drawn = future.draw(tokens.targets[None, :], np.zeros(1, np.int64), 1.0, random)
    assert ((drawn[0] > 0) == (tokens.targets > 0)).all()


def test_batches_carry_them(tokens, make):
    one = next(endless(tokens, 8, make.config(future_share=1.0, batch_tokens=64).training, 0))
    two = next(endless(tokens, 8, make.config(batch_tokens=64).training, 0))
    assert (one.titles == two.titles).all()
    assert (one.targets != two.targets).any()
