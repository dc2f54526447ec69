"""A member's shard is the same in Python and in DuckDB, and follows from the id alone."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.histories.build import plan_chunks
from embeddings.histories.sharding import shard_of, shard_sql, shards_for, shards_of
from embeddings.histories.snapshot import ShardRange

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def in_duckdb(connection: duckdb.DuckDBPyConnection, ids: pa.Array, shards: int) -> list[int]:
    connection.register("ids", pa.table({"place": range(len(ids)), "id": ids}))
    sql = f"SELECT {shard_sql('id', shards)} FROM ids ORDER BY place"
    return [row[0] for row in connection.execute(sql).fetchall()]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(1, 5000))
def test_python_and_duckdb_agree_on_numbers(connection: duckdb.DuckDBPyConnection, ids: list[int], shards: int) -> None:
    assert shards_of(ids, shards).tolist() == in_duckdb(connection, pa.array(ids, pa.int64()), shards)


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, min_size=1), st.integers(1, 5000))
def test_python_and_duckdb_agree_on_texts(connection: duckdb.DuckDBPyConnection, ids: list[str], shards: int) -> None:
    assert shards_of(ids, shards).tolist() == in_duckdb(connection, pa.array(ids, pa.string()), shards)


def test_arrays_lists_and_single_ids_agree() -> None:
    ids = [5, -1, 2**62]
    expected = [shard_of(one, 7) for one in ids]
    for form in (ids, np.array(ids), pa.array(ids), pa.chunked_array([ids])):
        assert shards_of(form, 7).tolist() == expected
    assert shards_of(np.array(ids), 7).dtype == np.int32
    assert shards_of(["é", "5"], 7).tolist() == [shard_of("é", 7), expected[0]]


def test_shards_are_even() -> None:
    counts = np.bincount(shards_of(range(20_000), 8), minlength=8)
    assert counts.min() > 2200
    assert counts.max() < 2800


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 64))
def test_the_number_of_shards_fits_the_members(members: int, per_shard: int, least: int) -> None:
    shards = shards_for(members, per_shard, least)
    assert 1 <= shards <= max(members, 1)
    assert shards * per_shard >= members
    assert shards >= min(least, max(members, 1))
    assert shards_for(members + 1, per_shard, least) >= shards


def test_an_empty_shard_opens_no_block_of_its_own() -> None:
    shards = [ShardRange(0, 0, 5, 90), ShardRange(1, 0, 0, 0), ShardRange(2, 5, 9, 4), ShardRange(3, 9, 12, 6)]
    numbers = [[shard.number for shard in block] for block in plan_chunks(shards, 10)]
    assert numbers == [[0, 1], [2, 3]]
