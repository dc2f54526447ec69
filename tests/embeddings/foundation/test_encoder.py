import numpy as np
import pyarrow as pa
import pytest

from embeddings.encode.encoder import CatalogueReader, Encoder
from embeddings.foundation import FoundationEncoder, evaluate, train
from embeddings.foundation.evaluation_queries import truncate_histories
from stores.errors import MismatchError


def test_it_is_an_encoder(trained, histories, catalogue):
    model, encoder = trained
    assert isinstance(encoder, Encoder)
    assert encoder.model_id == model.model_id
    members, titles = encoder.encode_members(histories), encoder.encode_titles(catalogue)
    assert members.shape == (len(histories), encoder.dim)
    assert titles.shape == (len(catalogue), encoder.dim)
    assert members.dtype == titles.dtype == np.float32


def test_all_vectors_have_the_length_of_the_temperature(trained, histories, catalogue):
    model, encoder = trained
    for vectors in (encoder.encode_members(histories), encoder.encode_titles(catalogue)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), model.metrics["temperature"] ** -0.5, rtol=1e-4)


def test_a_member_does_not_depend_on_who_shares_the_batch(trained, make):
    encoder = trained[1]
    histories = make.histories([walk[: 1 + 2 * (i % 5)] for i, walk in enumerate(make.walks())])
    together = encoder.encode_members(histories)
    alone = np.concatenate([encoder.encode_members(histories.slice(i, 1)) for i in range(len(histories))])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_member_does_not_depend_on_the_order_of_members(trained, histories):
    encoder = trained[1]
    order = np.random.default_rng(0).permutation(len(histories))
    np.testing.assert_allclose(
        encoder.encode_members(histories.take(order)), encoder.encode_members(histories)[order], atol=1e-5
    )


def test_a_member_does_not_depend_on_the_time_of_the_run(trained, histories, monkeypatch):
    expected = trained[1].encode_members(histories)
    with_times = histories
    for name in ("event_time", "history_hash"):
        place, field = histories.schema.get_field_index(name), histories.schema.field(name)
        other = pa.array([0] * len(histories)) if name == "event_time" else pa.array(["other"] * len(histories))
        with_times = with_times.set_column(place, field, other.cast(field.type))
    monkeypatch.setattr("time.time", lambda: 4e9)
    np.testing.assert_array_equal(trained[1].encode_members(with_times), expected)


def test_a_member_depends_on_its_history(trained, histories):
    encoder = trained[1]
    longer = encoder.encode_members(histories)
    shorter = encoder.encode_members(
        truncate_histories(histories, np.arange(len(histories)), np.full(len(histories), 8))
    )
    assert (np.abs(longer - shorter).max(axis=1) > 1e-3).all()


def test_only_the_last_positions_count(trained, make):
    encoder, length = trained[1], trained[0].metrics["length"]
    tail = [100 + i % 12 for i in range(length)]
    long = make.histories([[110, *tail]], start=1_000_000_000)
    other = make.histories([[120, *tail]], start=1_000_000_000)
    np.testing.assert_allclose(encoder.encode_members(long), encoder.encode_members(other), atol=1e-6)


def test_an_empty_history_and_unknown_titles_get_vectors(trained, make):
    encoder = trained[1]
    vectors = encoder.encode_members(make.histories([[], [999, 998], [100, 999]]))
    assert np.isfinite(vectors).all()
    assert encoder.encode_members(make.histories([])).shape == (0, encoder.dim)


def test_an_unknown_title_is_near_its_genre(trained, catalogue, make):
    encoder = trained[1]
    titles = encoder.encode_titles(catalogue)
    left, right = encoder.encode_titles(make.catalogue([900, 901], ["left", "right"], plays=[0, 0]))
    assert left @ titles[:12].mean(axis=0) > right @ titles[:12].mean(axis=0)
    assert right @ titles[12:].mean(axis=0) > left @ titles[12:].mean(axis=0)


def test_a_title_does_not_depend_on_its_neighbours_in_the_table(trained, catalogue):
    encoder = trained[1]
    np.testing.assert_allclose(
        encoder.encode_titles(catalogue.slice(5, 3)), encoder.encode_titles(catalogue)[5:8], atol=1e-6
    )


@pytest.fixture(scope="module")
def with_content(histories, catalogue, make, tmp_path_factory):
    """A model that was trained with content vectors of width 2, and that catalogue."""
    vectors = [[float(i < 12), float(i >= 12)] for i in range(24)]
    told = contents(catalogue, vectors)
    model = train(histories, told, make.config(max_steps=6), 0, tmp_path_factory.mktemp("content"))
    return FoundationEncoder.load(model.path), told


def contents(catalogue, vectors):
    place = catalogue.schema.get_field_index("embedding")
    return catalogue.set_column(place, catalogue.schema.field(place), pa.array(vectors, pa.list_(pa.float32())))


def test_a_catalogue_of_another_content_encoder_is_refused_with_both_widths(with_content, catalogue, histories):
    encoder, told = with_content
    assert isinstance(encoder, CatalogueReader)
    assert encoder.catalogue_notes(told) == []
    wider = contents(catalogue, [[1.0, 2.0, 3.0]] * 24)
    for refuse in (lambda: encoder.catalogue_notes(wider), lambda: evaluate(histories, wider, encoder)):
        with pytest.raises(MismatchError, match=r"width 2.*\(3\)") as caught:
            refuse()
        assert "samespace train" in str(caught.value)


@pytest.mark.parametrize("odd", [None, [], [float("nan"), 1.0], [float("inf"), 1.0], [1.0], [1.0, 2.0, 3.0]], ids=str)
def test_a_title_without_a_usable_content_vector_is_encoded_as_one_without_any(with_content, catalogue, odd):
    encoder, told = with_content
    vectors = [None, *told["embedding"].to_pylist()[1:]]
    expected = encoder.encode_titles(contents(catalogue, vectors))
    found = encoder.encode_titles(contents(catalogue, [odd, *vectors[1:]]))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found[1:], encoder.encode_titles(told)[1:], atol=1e-6)


def test_what_a_catalogue_lacks_of_content_is_said(with_content, catalogue):
    encoder, told = with_content
    (none,) = encoder.catalogue_notes(contents(catalogue, [None] * 24))
    assert "no title has any" in none
    (some,) = encoder.catalogue_notes(contents(catalogue, [[1.0], *told["embedding"].to_pylist()[1:]]))
    assert "1 of 24 titles" in some


def test_a_model_without_content_reads_any_catalogue(trained, catalogue):
    assert trained[1].catalogue_notes(contents(catalogue, [[1.0, 2.0]] * 24)) == []


def test_loading_again_gives_the_same_vectors(trained, histories, catalogue):
    model, encoder = trained
    again = FoundationEncoder.load(model.path)
    assert again.model_id == encoder.model_id
    np.testing.assert_array_equal(again.encode_members(histories), encoder.encode_members(histories))
    np.testing.assert_array_equal(again.encode_titles(catalogue), encoder.encode_titles(catalogue))


def test_a_chunked_table_is_the_same_table(trained, histories):
    encoder = trained[1]
    chunked = pa.concat_tables([histories.slice(0, 7), histories.slice(7)])
    np.testing.assert_allclose(encoder.encode_members(chunked), encoder.encode_members(histories), atol=1e-5)


@pytest.mark.parametrize("age", [float("nan"), -3.0, 0.0])
def test_launch_unknown_or_to_come_gives_a_vector(trained, catalogue, age):
    ages = pa.array([age] * len(catalogue), pa.float64())
    odd = catalogue.set_column(catalogue.schema.get_field_index("age_days"), "age_days", ages)
    assert np.isfinite(trained[1].encode_titles(odd)).all()
