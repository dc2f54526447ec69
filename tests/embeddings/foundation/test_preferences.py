import numpy as np
import pyarrow as pa
import pytest

from embeddings.encode.encoder import PREFERENCES, PreferenceEncoder, ValueEncoder
from embeddings.foundation import FoundationEncoder, train


def test_it_is_an_encoder_of_preferences_and_of_values(trained):
    assert isinstance(trained[1], PreferenceEncoder)
    assert isinstance(trained[1], ValueEncoder)


def test_shares_are_those_of_all_values_best_first(trained, make):
    table = trained[1].preferences(make.histories([[100, 101], [], [999], [112]]))
    assert table.schema == PREFERENCES
    assert len(table) == 4
    for row in table.to_pylist():
        assert sorted(row["genres"]) == ["left", "right"]
        assert row["genre_share"] == sorted(row["genre_share"], reverse=True)
        assert sum(row["genre_share"]) == pytest.approx(1, abs=1e-5)
        assert row["languages"] == row["language_share"] == []


def test_a_member_prefers_what_the_next_titles_are(trained, make):
    table = trained[1].preferences(make.histories([[100, 101, 102], [112, 113, 114]]))
    assert [genres[0] for genres in table["genres"].to_pylist()] == ["left", "right"]
    assert min(shares[0] for shares in table["genre_share"].to_pylist()) > 0.8


def test_preferences_do_not_depend_on_who_else_is_asked(trained, histories):
    together = trained[1].preferences(histories.slice(0, 6))
    alone = pa.concat_tables([trained[1].preferences(histories.slice(i, 1)) for i in range(6)])
    shares = (np.array(table["genre_share"].to_pylist()) for table in (together, alone))
    np.testing.assert_allclose(*shares, atol=1e-5)


def test_a_genre_lies_among_its_titles(trained, catalogue):
    names, vectors = trained[1].encode_genres()
    titles = trained[1].encode_titles(catalogue)
    assert vectors.shape == (2, trained[1].dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.linalg.norm(titles[0]), rtol=1e-4)
    left, right = vectors[names.index("left")], vectors[names.index("right")]
    assert (titles[:12] @ left > titles[:12] @ right).all()
    assert (titles[12:] @ right > titles[12:] @ left).all()


def test_without_genres_there_are_no_values(histories, catalogue, make, tmp_path):
    bare = catalogue.set_column(
        catalogue.schema.get_field_index("genres"),
        catalogue.schema.field("genres"),
        pa.nulls(len(catalogue), pa.list_(pa.string())),
    )
    encoder = FoundationEncoder.load(train(histories, bare, make.config(max_steps=2), 0, tmp_path).path)
    names, vectors = encoder.encode_genres()
    assert names == []
    assert vectors.shape == (0, encoder.dim)
    assert encoder.preferences(histories.slice(0, 2))["genres"].to_pylist() == [[], []]
