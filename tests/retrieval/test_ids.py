import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.ids import TitleIds
from stores.errors import UsageError


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True) | st.lists(st.text(), unique=True, min_size=1))
def test_rows_and_ids_go_there_and_back(values):
    ids = TitleIds.of(values)
    assert ids.rows(values).tolist() == list(range(len(values)))
    assert ids.at(np.arange(len(values))).tolist() == values
    assert TitleIds.from_table(ids.to_table()).values.tolist() == values
    rank = np.arange(len(values)) if ids.rank is None else ids.rank
    assert [values[row] for row in np.argsort(rank)] == sorted(values)


@pytest.mark.parametrize(
    "given_ids",
    [[3, 1], np.array([3, 1], np.int32), pa.array([3, 1]), pa.chunked_array([[3], [1]]), np.array([3, 1], np.uint64)],
)
def test_whole_numbers_of_any_kind_become_int64(given_ids):
    ids = TitleIds.of(given_ids)
    assert ids.values.dtype == np.int64
    assert ids.at(np.array([1, -1])).tolist() == [1, -1]


@pytest.mark.parametrize("given_ids", [["b", "a"], np.array(["b", "a"]), pa.array(["b", "a"], pa.large_string())])
def test_text_of_any_kind_becomes_str(given_ids):
    ids = TitleIds.of(given_ids)
    assert [type(value) for value in ids.values] == [str, str]
    assert ids.at(np.array([1, -1])).tolist() == ["a", None]


@pytest.mark.parametrize(
    "bad", [[1, "a"], [1.5], [None, 1], [True], np.array([2**63], np.uint64), [2**70], pa.array([1, None]), [[1], [2]]]
)
def test_other_kinds_are_refused(bad):
    with pytest.raises(UsageError):
        TitleIds.of(bad)


@pytest.mark.parametrize("twice", [[4, 5, 4], ["x", "y", "x"]])
def test_duplicates_are_refused_with_both_rows(twice):
    with pytest.raises(UsageError, match=r"twice(.|\n)*rows 0 and 2"):
        TitleIds.of(twice)


def test_excluded_ids_of_the_other_kind_are_refused_not_ignored():
    with pytest.raises(UsageError, match="whole numbers"):
        TitleIds.of([1, 2]).excluded([["1"]], 1)
    with pytest.raises(UsageError, match="2 exclusion lists for 1 queries"):
        TitleIds.of([1, 2]).excluded([[], []], 1)
    assert [part.tolist() for part in TitleIds.of([7, 2]).excluded([[], None, [2, 99]], 3)] == [[], [], [1]]
