"""The whole Python interface of retrieval: what cannot be used is refused by name, whatever it is."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from retrieval import Filter, IndexConfig, Origin, TitleIndex, exact
from stores.errors import MismatchError, SamespaceError, UsageError

N, D = 40, 4
REFUSED = (UsageError, MismatchError)

NOT_VECTORS = {
    "complex": np.ones((2, D)) + 1j,
    "complex without imaginary parts": np.ones((2, D), complex),
    "text": np.full((2, D), "1"),
    "bytes": np.full((2, D), b"1"),
    "truth": np.ones((2, D), bool),
    "objects": np.array([[1.0, None, 2.0, 3.0]], dtype=object),
    "decimals": [[Decimal(1)] * D],
    "fractions": [[Fraction(1, 2)] * D],
    "times": np.zeros((2, D), "datetime64[us]"),
    "durations": np.zeros((2, D), "timedelta64[us]"),
    "ragged": [[1.0, 2.0], [1.0]],
    "none": [[None] * D],
    "dicts": [{"a": 1}],
    "a text": "1234",
    "a number": 5.0,
    "nothing": None,
    "a set": {1.0},
    "one dimension": np.ones(D),
    "three dimensions": np.ones((2, 2, D)),
    "no width": np.ones((2, 0)),
    "other width": np.ones((2, D + 1)),
    "NaN": np.full((1, D), np.nan),
    "infinity": np.full((1, D), -np.inf),
    "beyond float32": np.full((1, D), 1e39),
    "beyond float32 as integers": [[10**39] * D],
    "structured": np.zeros(2, dtype=[("a", "f4"), ("b", "f4")]),
    "lists of arrow": pa.array([[1.0] * D] * 2),
}


@pytest.fixture
def vectors(rng):
    return rng.normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def index(vectors):
    return TitleIndex.build(np.arange(N), vectors)


@pytest.mark.parametrize("given", NOT_VECTORS.values(), ids=NOT_VECTORS)
def test_what_are_no_vectors_is_refused_everywhere(index, vectors, given):
    calls = (
        lambda: index.search(given, 3),
        lambda: index.measure(given, 3),
        lambda: index.with_added([99], given),
        lambda: TitleIndex.build(np.arange(N), vectors, given) if given is not None else index.search(given, 3),
        lambda: exact.search(vectors, given, 3, "ip"),
        lambda: exact.search(given, vectors, 3, "cosine"),
        lambda: TitleIndex.build([1, 2], given, np.ones((1, D))),
    )
    for call in calls:
        with pytest.raises(REFUSED):
            call()


@pytest.mark.parametrize(
    "given",
    [np.float16, np.float64, np.int8, np.uint64, np.longdouble, list, tuple],
    ids=lambda kind: kind.__name__,
)
def test_real_numbers_of_any_kind_are_vectors(index, given):
    rows = np.arange(2 * D).reshape(2, D) % 5
    asked = given(rows.tolist()) if given in (list, tuple) else rows.astype(given)
    expected = index.search(rows.astype(np.float32), 5)
    for found, wanted in zip(index.search(asked, 5), expected, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("k", [0, -1, 1.0, 2.5, "3", None, True, np.bool_(True), np.nan, [3], 10**9, 2**70, 1j])
def test_k_is_a_number_of_titles(index, vectors, k):
    for call in (lambda: index.search(vectors[:2], k), lambda: index.measure(vectors[:2], k)):
        with pytest.raises(UsageError, match="k is"):
            call()
    with pytest.raises(UsageError, match="k is"):
        exact.search(vectors, vectors[:2], k, "ip")


@pytest.mark.parametrize("k", [1, np.int8(3), np.uint64(7), N, N + 20, 1000])
def test_k_may_be_more_than_there_is(index, vectors, k):
    ids, scores = index.search(vectors[:2], k)
    assert ids.shape == scores.shape == (2, int(k))
    assert (ids >= 0).sum(axis=1).tolist() == [min(int(k), N)] * 2


@pytest.mark.parametrize("alike", ["0.9", np.nan, np.inf, -0.5, 0, 1.01, True, [0.9], 1j, np.array([0.9, 0.8])])
def test_alike_is_a_cosine(index, vectors, alike):
    with pytest.raises(UsageError, match="alike is"):
        index.search(vectors[:1], 3, dedup_threshold=alike)


@pytest.mark.parametrize("alike", [1, 0.5, np.float32(0.9), 1e-9])
def test_alike_may_be_any_cosine_above_none(index, vectors, alike):
    ids, _ = index.search(vectors[:1], 3, dedup_threshold=alike)
    assert ids[0, 0] >= 0


EXCLUDE = {
    "a number": 5,
    "a text": "ab",
    "bytes": b"ab",
    "a dict": {0: [1], 1: [2]},
    "one list too few": [[1]],
    "one list too many": [[1]] * 3,
    "numbers": [1, 2],
    "texts": ["a", "b"],
    "text ids": [["a"], ["b"]],
    "floats": [[1.0], [2.0]],
    "truth": [[True], [False]],
    "nested": [[[1]], [[2]]],
    "ragged": [[[1], [1, 2]], []],
    "mixed": [[1, "a"], []],
    "missing": [[None], []],
    "an array": np.ones(2),
    "a cube": np.ones((2, 2, 2), int),
    "too large": [[2**70], []],
    "a generator": (ids for ids in [[1], [2]]),
}


@pytest.mark.parametrize("exclude", EXCLUDE.values(), ids=EXCLUDE)
def test_exclude_is_one_list_of_ids_for_each_query(index, vectors, exclude):
    with pytest.raises(UsageError):
        index.search(vectors[:2], 3, exclude=exclude)
    with pytest.raises(UsageError):
        exact.search(vectors, vectors[:2], 3, "ip", exclude=exclude)


def test_exclude_may_come_in_any_form_of_lists(index, vectors):
    expected = index.search(vectors[:2], 5, exclude=[[0], [1]])[0].tolist()
    forms = ([np.array([0]), (1,)], np.array([[0], [1]]), [pa.array([0]), pa.array([1])], ({0}, [np.int16(1)]))
    for exclude in forms:
        assert index.search(vectors[:2], 5, exclude=exclude)[0].tolist() == expected
    free = index.search(vectors[:2], 5)[0].tolist()
    for exclude in ([[], []], [None, ()], [[10**9], [-5]]):
        assert index.search(vectors[:2], 5, exclude=exclude)[0].tolist() == free


def test_rows_out_of_range_are_no_rows(vectors):
    for exclude in ([[N]], [[-1]], [[2**40]]):
        with pytest.raises(UsageError, match="exclude names row"):
            exact.search(vectors, vectors[:1], 3, "ip", exclude=exclude)


ALLOWED = {
    "a number": 1,
    "truth": True,
    "text": "yes",
    "ids": [1, 2, 3],
    "integers": np.ones(N, int),
    "floats": np.ones(N),
    "objects": np.array([True] * N, dtype=object),
    "texts": ["True"] * N,
    "too short": np.ones(N - 1, bool),
    "too long": np.ones(N + 1, bool),
    "one for each query": np.ones((2, N), bool),
    "empty": [],
    "ragged": [[True], [True, False]],
}


@pytest.mark.parametrize("allowed", ALLOWED.values(), ids=ALLOWED)
def test_allowed_is_one_truth_for_each_title(index, vectors, allowed):
    for call in (
        lambda: index.search(vectors[:2], 3, allowed=allowed),
        lambda: index.measure(vectors[:2], 3, allowed=allowed),
        lambda: exact.search(vectors, vectors[:2], 3, "ip", allowed=allowed),
    ):
        with pytest.raises(REFUSED):
            call()


def test_an_empty_batch_has_an_empty_answer(index, vectors):
    none = np.zeros((0, D))
    ids, scores = index.search(none, 3, exclude=[], allowed=np.ones(N, bool), dedup_threshold=0.9)
    assert ids.shape == scores.shape == (0, 3)
    assert index.measure(none, 3) is None
    rows, _ = exact.search(vectors, none, 3, "cosine", exclude=[])
    assert rows.shape == (0, 3)


IDS = {
    "a number": 5,
    "a text": "ab",
    "bytes": b"ab",
    "floats": [1.0, 2.0],
    "truth": [True, False],
    "mixed": [1, "a"],
    "missing": [1, None],
    "pairs": [(1, 2), (3, 4)],
    "two dimensions": np.ones((2, 1), int),
    "twice": [1, 1],
    "too large": [1, 2**63],
    "too large unsigned": np.array([1, 2**63], np.uint64),
    "complex": np.array([1j, 2]),
    "times": np.zeros(2, "datetime64[us]"),
    "bytes of arrow": pa.array([b"a", b"b"]),
    "floats of arrow": pa.array([1.0, 2.0]),
    "missing in arrow": pa.array([1, None]),
    "a dict": {1: 2, 3: 4},
    "nothing": None,
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_are_whole_numbers_or_texts_each_once(index, vectors, ids):
    for call in (lambda: TitleIndex.build(ids, vectors[:2]), lambda: index.with_added(ids, vectors[:2])):
        with pytest.raises(REFUSED):
            call()


def test_settings_and_origins_have_their_classes(vectors, tmp_path):
    ids = np.arange(N)
    for words in ({"config": {"metric": "ip"}}, {"config": "ip"}, {"origin": "1"}, {"origin": {"space_id": "1"}}):
        with pytest.raises(UsageError, match=next(iter(words))):
            TitleIndex.build(ids, vectors, **words)
    index = TitleIndex.build(ids, vectors, config=IndexConfig(), origin=Origin(space_id="1"))
    for folder in (None, 5, b"x"):
        with pytest.raises(UsageError, match="folder is"):
            index.save(folder)
        with pytest.raises(UsageError, match="folder is"):
            TitleIndex.load(folder)
    index.save(tmp_path)
    with pytest.raises(UsageError, match="name is"):
        TitleIndex.load(tmp_path, 3)
    with pytest.raises(UsageError, match="origin is"):
        TitleIndex.load(tmp_path, origin="1")
    with pytest.raises(SamespaceError, match="there is no index nothing"):
        TitleIndex.load(tmp_path, "nothing")
    for metric in ("l2", None, 1, ["ip"]):
        with pytest.raises(UsageError, match="there is no metric"):
            exact.search(vectors, vectors, 3, metric)


def test_a_filter_of_rows_is_what_it_was(vectors):
    """`Filter` is for callers that have rows already; what it holds is not changed by searching."""
    gone, mask = np.array([1, 2]), np.ones(N, bool)
    wanted = Filter(mask, [gone])
    rows, _ = exact.top_k(exact.TitleVectors.of(vectors), vectors[:1], N, wanted)
    assert not {1, 2} & set(rows[0].tolist())
    assert gone.tolist() == [1, 2]
    assert mask.all()
