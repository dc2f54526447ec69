"""The catalogue's content vectors are finite and all of one length, or missing; what is missing is counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.histories.catalogue import Catalogue, build_catalogue, content_vectors
from embeddings.histories.job import HistoriesConfig
from embeddings.histories.snapshot import SnapshotTime, memory_snapshot
from stores.schema import EMBEDDING
from tests.chaos.damage import fuzz

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")


def made(**titles: Any) -> Catalogue:
    """The catalogue of some titles, numbered from 0."""
    count = len(next(iter(titles.values())))
    events = {"member_id": [1], "title_id": [0], "event_time": pa.array([AS_OF], pa.timestamp("us", "UTC"))}
    table = pa.table({"title_id": range(count), **titles})
    with memory_snapshot(
        pa.table({**events, "action": ["play"]}), table, SnapshotTime(AS_OF, AS_OF), HistoriesConfig()
    ) as snapshot:
        assert not any(snapshot.refused["titles"].values())
        return build_catalogue(snapshot, np.zeros(count, np.int64))


def test_a_vector_that_cannot_be_used_is_missing_counted_and_named() -> None:
    vectors = [[1.0, 2.0], [3.0, NAN], [], None, [1.0], [INF, 1.0], [1.0, None], [4.0, 5.0], [1e300, 1.0]]
    found = made(embedding=pa.array(vectors))
    kept = found.table[EMBEDDING].to_pylist()
    assert kept == [[1.0, 2.0], None, None, None, None, None, None, [4.0, 5.0], None]
    told = {one["why"]: (one["cells"], one["first"]) for one in found.missing}
    assert told == {
        "empty": (1, "title_id 2"),
        "a value that is not finite": (4, "title_id 1"),
        "another length than the catalogue's 2": (1, "title_id 4"),
    }


def test_the_length_is_that_of_most_vectors_and_the_longer_of_two_that_are_equally_frequent() -> None:
    assert made(embedding=[[1.0], [1.0, 2.0], [3.0]]).table[EMBEDDING].to_pylist() == [[1.0], None, [3.0]]
    assert made(embedding=[[1.0], [1.0, 2.0]]).table[EMBEDDING].to_pylist() == [None, [1.0, 2.0]]
    assert made(embedding=[[1.0, NAN], [1.0, NAN], [1.0]]).table[EMBEDDING].to_pylist() == [None, None, [1.0]]


@pytest.mark.parametrize("vectors", [[[]], [None, []], [[NAN]]])
def test_a_catalogue_without_a_vector_that_can_be_used_has_none(vectors: list[Any]) -> None:
    found = made(embedding=pa.array(vectors, pa.list_(pa.float32())))
    assert found.table[EMBEDDING].null_count == len(vectors)


cells = st.lists(st.floats(width=32) | st.none(), max_size=3) | st.none()


@fuzz(60)
@given(st.lists(cells, max_size=8), st.integers(0, 8))
def test_every_vector_that_is_kept_is_finite_of_one_length_and_as_it_was(vectors: list[Any], cut: int) -> None:
    kind = pa.list_(pa.float32())
    parts = [pa.array(part, kind) for part in (vectors[:cut], vectors[cut:])]
    kept, whys = content_vectors(pa.chunked_array(parts, kind))
    found = kept.to_pylist()
    assert len({len(one) for one in found if one is not None}) <= 1
    usable = [one is not None and len(one) > 0 and None not in one and bool(np.isfinite(one).all()) for one in vectors]
    assert all(one is None or (one == old and fine) for one, old, fine in zip(found, vectors, usable, strict=True))
    assert any(usable) == any(one is not None for one in found)
    counts = sum(sum(mask.to_pylist()) for mask in whys[EMBEDDING].values())
    assert counts == sum(old is not None and one is None for one, old in zip(found, vectors, strict=True))


def test_a_launch_that_means_never_or_not_yet_is_unknown_and_counted() -> None:
    launches = [
        AS_OF - timedelta(days=10),
        AS_OF + timedelta(days=400),
        *(datetime(year, 1, 1, tzinfo=UTC) for year in (1, 1601, 1895, 2099, 9999)),
    ]
    found = made(launch_time=pa.array(launches, pa.timestamp("us", "UTC")))
    assert found.table["launch_time"].is_valid().to_pylist() == [True, True, False, False, True, False, False]
    ages = found.table["age_days"].to_pylist()
    assert ages[:2] == [10.0, -400.0]
    assert np.isnan(ages).tolist() == [False, False, True, True, False, True, True]
    assert [(one["column"], one["cells"], one["first"]) for one in found.missing] == [("launch_time", 4, "title_id 2")]
