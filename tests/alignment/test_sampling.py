import numpy as np
import pyarrow as pa

from alignment.sampling import hashes, held_out, shards_for


def test_one_in_five_is_held_out_whatever_the_kind_or_order_of_ids() -> None:
    ids = np.arange(5000)
    held = held_out(pa.chunked_array([pa.array(ids)]))
    assert 900 < held.sum() < 1100
    as_text = held_out(pa.chunked_array([pa.array([str(i) for i in ids])]))
    np.testing.assert_array_equal(held, as_text)
    np.testing.assert_array_equal(held[::-1], held_out(pa.chunked_array([pa.array(ids[::-1])])))


def test_hashes_are_pinned_for_ever() -> None:
    assert hashes(pa.chunked_array([pa.array([7])]))[0] == hashes(pa.chunked_array([pa.array(["7"])]))[0]
    assert int(hashes(pa.chunked_array([pa.array(["title"])]))[0]) == 7530813165274739851
    assert len(hashes(pa.chunked_array([pa.array([], pa.string())]))) == 0


def test_enough_shards_are_read_and_no_more() -> None:
    paths = [f"part-{i}" for i in range(10)]
    assert shards_for(paths, rows=1000, wanted=2000) == paths
    assert shards_for(paths, rows=1000, wanted=150) == paths[:2]
    assert shards_for(paths, rows=1000, wanted=1) == paths[:1]
