import numpy as np
import pytest

from embeddings.foundation import checkpoint
from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.generate import append_tokens, next_titles
from embeddings.foundation.sequences import NO_TARGET, TokenSequences
from embeddings.foundation.trainer import train
from stores import schema
from stores.errors import UsageError


@pytest.fixture(scope="module")
def members(make):
    """Histories of all lengths, an empty one and ones beyond the window among them."""
    return make.histories([walk[: 1 + 3 * place % 11] for place, walk in enumerate(make.walks(40, length=11))] + [[]])


@pytest.fixture(scope="module", params=[{}, {"time_bias": False}, {"latents": 3}, {"block_type": "hstu"}], ids=str)
def model(request, histories, catalogue, make, tmp_path_factory):
    config = make.config(max_steps=30)
    network = {"dim": 8, "width": 16, "num_layers": 2, "text_hash_buckets": 16, "max_positions": 10, **request.param}
    config = config.model_copy(update={"network": NetworkConfig(**network)})
    return checkpoint.load_checkpoint(train(histories, catalogue, config, 0, tmp_path_factory.mktemp("models")).path)[0]


def test_cached_decoding_is_uncached_decoding_token_for_token(model, members, catalogue):
    for count in (1, 5, 10):
        cached, anew = (next_titles(model, members, catalogue, count, cached=way) for way in (True, False))
        np.testing.assert_array_equal(cached.titles, anew.titles)
        np.testing.assert_allclose(cached.scores, anew.scores, rtol=1e-4, atol=1e-4)


def test_a_session_depends_on_nobody_else(model, members, catalogue):
    together = next_titles(model, members, catalogue, 4).titles
    for row in (0, 7, len(members) - 1):
        alone = next_titles(model, members.slice(row, 1), catalogue, 4).titles
        np.testing.assert_array_equal(alone[0], together[row])


def test_a_session_meets_no_title_twice_and_none_that_was_met(model, members, catalogue):
    ids = np.asarray(catalogue[schema.TITLE_ID])
    sessions = next_titles(model, members, catalogue, 6).titles
    for row, titles in zip(members[schema.TITLE_ID].to_pylist(), sessions, strict=True):
        chosen = ids[titles].tolist()
        assert len(set(chosen)) == 6
        assert not set(chosen) & set(row)


def test_the_first_title_is_the_best_of_the_member_vector(trained, members, catalogue):
    from embeddings.foundation.checkpoint import load_checkpoint

    model, encoder = load_checkpoint(trained[0].path)[0], trained[1]
    scores = encoder.encode_members(members) @ encoder.encode_titles(catalogue).T
    ids = np.asarray(catalogue[schema.TITLE_ID])
    for row, met in enumerate(members[schema.TITLE_ID].to_pylist()):
        scores[row, np.isin(ids, met)] = -np.inf
    found = next_titles(model, members, catalogue, 1)
    np.testing.assert_array_equal(found.titles[:, 0], scores.argmax(axis=1))
    np.testing.assert_allclose(found.scores[:, 0], scores.max(axis=1), rtol=1e-4)


def test_where_nothing_is_left_there_is_nothing(model, make, catalogue):
    everything = make.histories([list(range(100, 124)), list(range(100, 123))])
    found = next_titles(model, everything, catalogue, 2)
    assert found.titles.tolist() == [[-1, -1], [23, -1]]
    assert np.isneginf(found.scores[0]).all()


def test_a_walk_goes_on(trained, make, catalogue):
    """Members walk in order through the titles of their half: the session does too."""
    from embeddings.foundation.checkpoint import load_checkpoint

    model = load_checkpoint(trained[0].path)[0]
    walks = make.histories([[100, 101, 102, 103], [112, 113, 114, 115]])
    found = next_titles(model, walks, catalogue, 4).titles
    assert (found[0] < 12).all()
    assert (found[1] >= 12).all()


def test_a_grown_history_ends_with_its_new_title(model, members):
    tokens = TokenSequences.of(members, model.vocabulary)
    rows = np.arange(len(members)) % 5
    longer = append_tokens(tokens, rows)
    np.testing.assert_array_equal(longer.lengths, tokens.lengths + 1)
    np.testing.assert_array_equal(longer.titles[longer.starts[1:] - 1], rows)
    np.testing.assert_array_equal(longer.targets[longer.starts[1:] - 2], np.where(rows > 0, rows, NO_TARGET))


@pytest.mark.parametrize("count", [0, 11])
def test_a_session_must_fit_into_the_window(model, members, catalogue, count):
    with pytest.raises(UsageError, match=f"session of {count}"):
        next_titles(model, members, catalogue, count)
