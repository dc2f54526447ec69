import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation.config import FoundationConfig, NetworkConfig
from embeddings.foundation.metadata import MetadataVocabulary, trust_signals
from embeddings.foundation.vocabulary import Vocabulary


def with_column(table, name, values):
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))


@pytest.fixture(scope="module")
def described(catalogue):
    """Genres, languages, launch years and content vectors; the first title has none of them."""
    table = with_column(catalogue, "genres", [None] + [["left", "drama"]] * 11 + [["right"]] * 11 + [["rare"]])
    table = with_column(table, "language", [None] + ["en", "de"] * 11 + ["en"])
    years = [None] + [n // 4 * 400 * 86_400 * 1_000_000 for n in range(2, 25)]
    table = with_column(table, "launch_time", years)
    return with_column(table, "embedding", [None] + [[3.0, 4.0]] * 23)


def test_codes_name_known_values_and_say_nothing_of_others(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    codes, layout = metadata.codes(described), metadata.layout()
    assert codes.shape == (24, sum(columns for columns, _ in layout))
    assert set(metadata.values) == {"genres", "language", "year"}
    genres = codes[:, : layout[0][0]]
    assert genres[0].tolist() == [0] * layout[0][0]
    assert genres[1, :3].tolist() == [metadata.values["genres"].index(genre) + 1 for genre in ("left", "drama")] + [0]
    assert genres[23].tolist() == [0] * layout[0][0]
    for (_, values), block in zip(layout, np.split(codes, np.cumsum([n for n, _ in layout])[:-1], axis=1), strict=True):
        assert 0 <= block.min() <= block.max() < values


def test_codes_of_a_slice_are_the_slice_of_the_codes(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    np.testing.assert_array_equal(metadata.codes(described.slice(5, 7)), metadata.codes(described)[5:12])


def test_words_are_hashed_the_same_everywhere(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig(fields=("text",)))
    codes = metadata.codes(described)
    assert (codes[1, :3] > 0).all()
    assert codes[1, 0] == codes[20, 0]
    assert codes[1, 1] != codes[20, 1]


def test_content_vectors_are_unit_or_zero(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    np.testing.assert_allclose(metadata.content(described), [[0, 0]] + [[0.6, 0.8]] * 23, atol=1e-6)


ODD = [None, [], [np.nan, 4.0], [np.inf, 4.0], [None, 4.0], [1.0, 2.0, 3.0], [0.0, 0.0]]


def test_a_content_vector_that_is_not_finite_empty_or_of_another_width_is_missing_for_its_title(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    found = metadata.content(with_column(described, "embedding", ODD + [[3.0, 4.0]] * 17))
    np.testing.assert_array_equal(found[:7], np.zeros((7, 2)))
    np.testing.assert_allclose(found[7:], [[0.6, 0.8]] * 17, atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-44, 1e30, 3e38])
def test_a_content_vector_of_any_length_is_a_unit_vector(described, size):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    found = metadata.content(with_column(described, "embedding", [None] + [[size, -size]] * 23))
    np.testing.assert_allclose(found[1:], [[0.5**0.5, -(0.5**0.5)]] * 23, rtol=1e-5)


@pytest.mark.parametrize("first", [None, [], [1.0], [1.0, 2.0, 3.0]], ids=str)
def test_the_width_is_that_of_the_catalogue_and_not_of_its_first_row(described, first):
    column = with_column(described, "embedding", [first] + [[3.0, 4.0]] * 23)
    assert MetadataVocabulary.build(column, FoundationConfig()).content_dim == 2
    played = with_column(described, "embedding", [first] * 2 + [[3.0, 4.0]] * 22).slice(0, 3)
    assert MetadataVocabulary.build(played, FoundationConfig(), column).content_dim == 2


@pytest.mark.parametrize("column", [[None] * 24, [[]] * 24, [None] * 23 + [[1.0, 2.0]]], ids=["null", "empty", "unmet"])
def test_without_a_vector_of_a_known_title_there_is_no_content(described, column):
    whole = with_column(described, "embedding", column)
    metadata = MetadataVocabulary.build(whole.slice(0, 23), FoundationConfig(), whole)
    assert metadata.content_dim == 0
    assert metadata.content(whole).shape == (24, 0)
    assert metadata.content_fault(described) == ("", False)


def test_a_catalogue_says_what_it_lacks_of_what_was_learned_with(described):
    metadata = MetadataVocabulary.build(described, FoundationConfig())
    faults = [
        metadata.content_fault(with_column(described, "embedding", column))
        for column in ([[1.0, 2.0, 3.0]] * 24, [None] * 24, [[1.0, 2.0]] * 23 + [[1.0]], [None] + [[1.0, 2.0]] * 23)
    ]
    assert [unreadable for _, unreadable in faults] == [True, False, False, False]
    assert "width 2" in faults[0][0]
    assert "24 of 24 titles have other widths (3)" in faults[0][0]
    assert "no title has any" in faults[1][0]
    assert "1 of 24 titles" in faults[2][0]
    assert faults[3][0] == ""


def test_nothing_is_read_when_metadata_is_off(described):
    off = FoundationConfig(network=NetworkConfig(metadata=False, content=False))
    metadata = MetadataVocabulary.build(described, off)
    assert metadata.codes(described).shape == (24, 0)
    assert metadata.content(described).shape == (24, 0)


def test_signals_are_finite_whatever_is_unknown(described):
    infinite = with_column(described, "age_days", [float("inf"), float("-inf")] + [10.0] * 22)
    infinite = with_column(infinite, "plays", [-1, -(2**60), 2**62] + [3] * 21)
    assert np.isfinite(trust_signals(infinite)).all()
    assert trust_signals(infinite)[:2].tolist() == [[0, 0, 0, 1]] * 2
    odd = with_column(described, "age_days", [float("nan"), -5.0] + [10.0] * 22)
    odd = with_column(odd, "plays", [None, *list(range(23))])
    found = trust_signals(odd)
    assert np.isfinite(found).all()
    assert found[:2, 2:].tolist() == [[0, 1], [1, 0]]
    assert (np.diff(found[2:, 1]) > 0).all()


def test_a_vocabulary_survives_its_files(histories, described, make):
    vocabulary = Vocabulary.build(histories, described, make.config())
    again = Vocabulary.from_files(vocabulary.files())
    assert again.files() == vocabulary.files()
    assert again.title_ids.equals(vocabulary.title_ids)
    assert again.metadata == vocabulary.metadata


def test_titles_without_a_token_stay_unknown(make, catalogue):
    vocabulary = Vocabulary.build(make.histories([[105, 101], [101, 110]]), catalogue, make.config())
    assert vocabulary.rows(pa.array([101, 105, 110, 102, 999])).tolist() == [1, 2, 3, 0, 0]
    assert vocabulary.start == 4


def test_string_ids_do_as_well(catalogue):
    names = pa.array([f"t{i}" for i in range(24)])
    described = catalogue.set_column(0, pa.field("title_id", pa.string()), names)
    unknown = pa.array([[None, None]], pa.list_(pa.string()))
    histories = pa.table(
        {
            "title_id": pa.array([["t3", "t1"]], pa.list_(pa.string())),
            **dict.fromkeys(("device", "country", "locale"), unknown),
            "value": pa.array([[1.0, 2.0]]),
        }
    )
    vocabulary = Vocabulary.build(histories, described, FoundationConfig())
    assert vocabulary.rows(pa.array(["t1", "t3", "t9"])).tolist() == [1, 2, 0]
