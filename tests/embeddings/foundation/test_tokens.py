import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from embeddings.foundation.batches import draw_windows, endless_batches, epoch_batches
from embeddings.foundation.encode import title_features
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import (
    NO_TARGET,
    POST_COLUMNS,
    REQUEST_COLUMNS,
    TokenSequences,
    code_sizes,
    gap_codes,
)
from embeddings.foundation.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def mixed(make, catalogue):
    histories = make.histories(
        [[100, 101, 999], [], [105]],
        gap=7200,
        device=["tv", None, "tv", "phone"],
        value=[1.0, None, 5.0, 3.0],
        duration_s=[600.0, 0.0, 600.0, 5000.0],
    )
    vocabulary = Vocabulary.build(histories, catalogue, make.config())
    return vocabulary, TokenSequences.of(histories, vocabulary)


def test_a_value_that_is_not_finite_is_no_value(make, catalogue):
    values = [1.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 2.0]
    histories = make.histories([[100, 101, 102, 103, 104, 105, 106]], value=values)
    vocabulary = Vocabulary.build(histories, catalogue, make.config())
    assert np.isfinite(vocabulary.levels).all()
    levels = TokenSequences.of(histories, vocabulary).codes[1:, POST_COLUMNS.index("value")]
    assert (levels > 0).tolist() == [True, False, False, False, True, True, True]
    assert levels[5] < levels[0] < levels[6] < levels[4]


def test_positions_hold_the_title_before_and_the_title_after(mixed):
    vocabulary, tokens = mixed
    assert tokens.starts.tolist() == [0, 4, 5, 7]
    assert tokens.titles.tolist() == [vocabulary.start, 1, 2, 0, vocabulary.start, vocabulary.start, 3]
    assert tokens.targets.tolist() == [1, 2, NO_TARGET, NO_TARGET, NO_TARGET, 3, NO_TARGET]
    assert tokens.lengths.tolist() == [3, 0, 1]


def test_post_action_features_come_one_position_later_than_the_request(mixed):
    vocabulary, tokens = mixed
    device = len(POST_COLUMNS) + REQUEST_COLUMNS.index("device")
    known = {name: code + 2 for code, name in enumerate(vocabulary.contexts["device"])}
    assert tokens.codes[:, device].tolist() == [known["tv"], 0, known["tv"], 0, 0, known["phone"], 0]
    share = POST_COLUMNS.index("share")
    assert tokens.codes[:, share].tolist() == [0, 6, 0, 0, 0, 0, 11]
    assert (tokens.codes[[0, 4, 5]][:, : len(POST_COLUMNS)] == 0).all()
    value = tokens.codes[:, POST_COLUMNS.index("value")]
    assert value[2] == 0
    assert 0 < value[1] < value[3]


def test_texts_as_codes_of_a_dictionary_say_the_same(make, catalogue):
    histories = make.histories([[100, 101], [], [105]], device=["tv", None, "radio"], country=["NZ", "NZ", None])
    vocabulary = Vocabulary.build(histories.slice(0, 2), catalogue, make.config())
    coded = histories
    for name in ("device", "country", "locale"):
        column = histories[name].combine_chunks()
        lists = pa.ListArray.from_arrays(column.offsets, column.flatten().dictionary_encode())
        coded = coded.set_column(coded.schema.get_field_index(name), name, lists)
    found, expected = TokenSequences.of(coded, vocabulary, 1), TokenSequences.of(histories, vocabulary, 1)
    assert (found.codes == expected.codes).all()


def test_the_gap_before_the_first_token_is_unknown(mixed):
    tokens = mixed[1]
    gap = tokens.codes[:, len(POST_COLUMNS) + REQUEST_COLUMNS.index("gap")]
    assert gap.tolist() == [0, gap_codes(np.array([7200]))[0], gap_codes(np.array([7200]))[0], 0, 0, 0, 0]


def test_all_codes_are_within_their_sizes(mixed):
    vocabulary, tokens = mixed
    assert (tokens.codes >= 0).all()
    assert (tokens.codes < np.array(code_sizes(vocabulary))).all()


def test_gap_codes_grow_with_the_time_and_are_bounded():
    codes = gap_codes(np.array([-5, 0, 1, 3, 60, 86_400, 10**12]))
    assert (np.diff(codes) >= 0).all()
    assert codes[0] == codes[1] == 1
    assert codes[-1] == 33


def test_a_gap_code_is_the_logarithm_rounded_down():
    edges = np.array([2**power + one for power in range(1, 32) for one in (-2, -1, 0)])
    assert gap_codes(edges).tolist() == [int(1 + edge).bit_length() for edge in edges.tolist()]


@pytest.mark.parametrize("ids", [[5, 7, 8], [-3, 0, 2**62], [4], [], ["a", "c"]])
def test_rows_are_those_of_the_ids_and_0_for_others(mixed, ids):
    kind = pa.string() if ids and isinstance(ids[0], str) else pa.int64()
    known = dataclasses.replace(mixed[0], title_ids=pa.array(ids, kind))
    strange = ["b", ""] if kind == pa.string() else [-(2**63), 2**63 - 1, 6, 1]
    asked = pa.chunked_array([pa.array([*ids, None, *strange], kind)])
    assert known.rows(asked).tolist() == [*range(1, len(ids) + 1), 0, *[0] * len(strange)]
    assert known.rows(asked.drop_null()).tolist() == [*range(1, len(ids) + 1), *[0] * len(strange)]


def test_windows_cover_every_target_once(make, catalogue):
    sequences = [[100 + i % 24 for i in range(n)] for n in (1, 7, 8, 9, 40, 0)]
    histories = make.histories(sequences)
    tokens = TokenSequences.of(histories, Vocabulary.build(histories, catalogue, make.config()))
    random = np.random.default_rng(0)
    for _ in range(20):
        first, lengths = draw_windows(tokens, 8, random)
        covered = np.concatenate([np.arange(a, a + n) for a, n in zip(first, lengths, strict=True)])
        assert sorted(covered) == np.flatnonzero(tokens.targets != NO_TARGET).tolist()
        assert lengths.max() <= 8


def test_batches_keep_to_their_budget_and_repeat_with_the_seed(make, catalogue):
    histories = make.histories(make.walks(members=40))
    tokens = TokenSequences.of(histories, Vocabulary.build(histories, catalogue, make.config()))
    batches = [tokens.windows(*windows) for windows in epoch_batches(tokens, 8, 32, np.random.default_rng(0))]
    assert sum(int((batch.targets > 0).sum()) for batch in batches) == int(tokens.lengths.sum())
    assert all(batch.titles.shape[1] <= 8 for batch in batches)
    one, two = (endless_batches(tokens, 8, make.config(batch_tokens=32).training, 5) for _ in range(2))
    assert all(next(one).titles.equal(next(two).titles) for _ in range(30))


def test_a_token_depends_on_nothing_that_is_known_only_later(make, catalogue):
    """Neither on later events, nor on the plays and the age that a title has tonight."""
    sequence = make.walks(members=1)[0]
    vocabulary = Vocabulary.build(make.histories(make.walks()), catalogue, make.config())
    whole = TokenSequences.of(make.histories([sequence]), vocabulary)
    for count in range(1, len(sequence)):
        early = TokenSequences.of(make.histories([sequence[:count]]), vocabulary)
        for name in ("titles", "actions", "times"):
            assert (getattr(early, name) == getattr(whole, name)[: count + 1]).all()
        assert (early.codes[:count] == whole.codes[:count]).all()
        assert (early.codes[count, : len(POST_COLUMNS)] == whole.codes[count, : len(POST_COLUMNS)]).all()
    model = FoundationModel(make.config().network, vocabulary, 16, 0.05).eval()
    genres = ["left"] * 12 + ["right"] * 12
    model.set_known_titles(title_features(make.catalogue(range(100, 124), genres, plays=[1] * 24), vocabulary))
    inputs, outputs = model.known_titles()
    model.set_known_titles(title_features(make.catalogue(range(100, 124), genres, plays=[9999] * 24), vocabulary))
    torch.testing.assert_close(model.known_titles()[0], inputs, rtol=0, atol=0)
    assert not torch.allclose(model.known_titles()[1], outputs)
