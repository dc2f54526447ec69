import numpy as np
import pyarrow as pa

from alignment.reference import id_hashes, is_held_out, sample_shards


def test_one_in_five_is_held_out_whatever_the_kind_or_order_of_ids() -> None:
    ids = np.arange(5000)
    held = is_held_out(pa.chunked_array([pa.array(ids)]))
    assert 900 < held.sum() < 1100
    as_text = is_held_out(pa.chunked_array([pa.array([str(i) for i in ids])]))
    np.testing.assert_array_equal(held, as_text)
    np.testing.assert_array_equal(held[::-1], is_held_out(pa.chunked_array([pa.array(ids[::-1])])))


def test_hashes_are_pinned_for_ever() -> None:
    assert id_hashes(pa.chunked_array([pa.array([7])]))[0] == id_hashes(pa.chunked_array([pa.array(["7"])]))[0]
    assert int(id_hashes(pa.chunked_array([pa.array(["title"])]))[0]) == 7530813165274739851
    assert len(id_hashes(pa.chunked_array([pa.array([], pa.string())]))) == 0


def test_enough_shards_are_read_and_no_more() -> None:
    paths = [f"part-{i}" for i in range(10)]
    assert sample_shards(paths, rows=1000, wanted=2000) == paths
    assert sample_shards(paths, rows=1000, wanted=150) == paths[:2]
    assert sample_shards(paths, rows=1000, wanted=1) == paths[:1]
