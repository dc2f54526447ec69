import numpy as np
import pyarrow as pa
import pytest

from alignment.reference import add_titles, positions_in, to_column, to_matrix
from stores.errors import MismatchError


def test_a_position_is_never_rewritten_and_the_table_only_grows() -> None:
    first = add_titles(None, pa.array([3, 1]), np.array([[1.0, 2.0], [3.0, 4.0]]), "one")
    later = add_titles(first, pa.array([1, 2]), np.array([[9.0, 9.0], [5.0, 6.0]]), "two")
    assert later["title_id"].to_pylist() == [3, 1, 2]
    assert later["release_id"].to_pylist() == ["one", "one", "two"]
    np.testing.assert_array_equal(to_matrix(later), [[1, 2], [3, 4], [5, 6]])
    assert add_titles(later, pa.array([3]), np.zeros((1, 2)), "three") == later


def test_positions_of_ids() -> None:
    ids, among = (pa.chunked_array([pa.array(values)]) for values in (["b", "x", "a"], ["a", "b"]))
    assert positions_in(ids, among).tolist() == [1, -1, 0]
    with pytest.raises(MismatchError, match="ids are string here and int64"):
        positions_in(ids, pa.chunked_array([pa.array([1])]))


def test_vectors_make_the_trip_through_arrow_also_from_slices_and_chunks() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    table = pa.table({"embedding": to_column(x)})
    np.testing.assert_array_equal(to_matrix(table), x)
    np.testing.assert_array_equal(to_matrix(table.slice(2, 3)), x[2:5])
    np.testing.assert_array_equal(to_matrix(pa.concat_tables([table.slice(4), table.slice(0, 1)])), x[[4, 5, 0]])
    assert to_matrix(table.slice(0, 0)).shape == (0, 2)
