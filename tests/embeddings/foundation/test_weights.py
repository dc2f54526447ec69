import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation.sample_weights import engagement_weights, inverse_propensity_weights, with_sample_weights
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary
from stores.schema import PROPENSITY

FILM_S = 1200.0  # the runtime of every title of `make.catalogue`


@pytest.fixture(scope="module")
def watched(make, catalogue):
    histories = make.histories(
        [[100, 101, 102, 103], [104, 105]], duration_s=[FILM_S, FILM_S / 2, 60.0, 0.0, 5 * FILM_S, 1.0]
    )
    return histories, Vocabulary.build(histories, catalogue, make.config())


def exposed(histories, values):
    lists = histories["title_id"].combine_chunks()
    flat = pa.array(values, pa.float64())
    return histories.append_column(PROPENSITY, pa.ListArray.from_arrays(lists.offsets, flat))


def test_what_was_watched_further_counts_more_and_a_trailer_a_tenth_of_a_film_at_most(watched):
    film, half, trailer, untimed, repeated, glance = engagement_weights(*watched)
    assert film > half > trailer
    assert max(trailer, untimed, glance) <= 0.1 * film + 0.1
    assert trailer <= 0.1 * film
    assert glance > 0
    assert film <= repeated < 2.5 * film


def test_durations_and_runtimes_that_are_not_finite_are_unknown_ones(make, catalogue):
    durations = [np.inf, np.nan, -np.inf, -5.0, 600.0, 1e308]
    sequences = [[100, 101, 102, 103], [104, 105]]
    place = catalogue.schema.get_field_index("runtime_s")
    runtimes = pa.array([np.inf, np.nan, 0.0, -1.0, None, 1e-320] + [FILM_S] * 18)
    for titles in (catalogue, catalogue.set_column(place, "runtime_s", runtimes)):
        histories = make.histories(sequences, duration_s=durations)
        vocabulary = Vocabulary.build(histories, titles, make.config())
        weights = engagement_weights(histories, vocabulary)
        assert np.isfinite(weights).all()
        assert len(set(weights[:4])) == 1
        tokens = TokenSequences.of(histories, vocabulary)
        shares = tokens.codes[tokens.starts[0] + 1 : tokens.starts[1], 1]
        assert shares.tolist() == [0, 0, 0, 0]
        assert np.isfinite(with_sample_weights(tokens, histories, vocabulary, make.config().training).weights).all()


@pytest.mark.parametrize("odd", [0.0, -1.0, np.inf, np.nan])
def test_a_propensity_that_can_be_none_is_no_propensity(make, odd):
    histories = exposed(make.histories([[100, 101, 102]]), [0.5, odd, 0.5])
    assert inverse_propensity_weights(histories, 5.0).tolist() == [1.0, 1.0, 1.0]
    assert inverse_propensity_weights(exposed(make.histories([[100]]), [odd]), 5.0).tolist() == [1.0]


def test_without_durations_all_count_alike(make, catalogue):
    histories = make.histories([[100, 101], [102]], duration_s=[0.0, 0.0, 0.0])
    vocabulary = Vocabulary.build(histories, catalogue, make.config())
    assert engagement_weights(histories, vocabulary).tolist() == [1, 1, 1]


def test_what_is_seldom_seen_counts_more_within_the_clip(make):
    histories = exposed(make.histories([[100, 101, 102, 103]]), [0.5, 0.05, 0.0005, None])
    often, usual, seldom, unknown = inverse_propensity_weights(histories, 5.0)
    assert often < usual < seldom
    assert (often, usual, seldom, unknown) == pytest.approx((0.2, 1.0, 5.0, 1.0))


def test_weights_are_one_without_both_and_of_mean_one_per_member_otherwise(watched, make):
    histories, vocabulary = exposed(watched[0], [0.1, 0.2, 0.3, 0.4, 0.5, None]), watched[1]

    def weights(**settings):
        tokens = with_sample_weights(
            TokenSequences.of(histories, vocabulary), histories, vocabulary, make.config(**settings).training
        )
        ends = tokens.starts[1:] - 1
        return np.delete(tokens.weights, ends)

    assert (weights(engagement_weights=False) == 1).all()
    one, other = {"engagement_weights": True}, {"engagement_weights": False, "max_ips_weight": 4.0}
    for settings in (one, other):
        found = weights(**settings)
        assert found.std() > 0
        np.testing.assert_allclose([found[:4].mean(), found[4:].mean()], 1, rtol=1e-5)
    both, product = weights(engagement_weights=True, max_ips_weight=4.0), weights(**one) * weights(**other)
    np.testing.assert_allclose(both[:4] / both[0], product[:4] / product[0], rtol=1e-5)
