"""Vectors, a brute force that shares no code with the project, and a small release."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace
from stores.schema import EMBEDDING, history_schema, member_vector_schema, title_vector_schema

NIGHT = datetime(2026, 7, 21, 2, tzinfo=UTC)


def _brute(vectors: Any, query: Any, k: int, ids: Any, allowed: Any, gone: Any) -> list[tuple[Any, float]]:
    scores = np.float32(vectors.astype(np.float64) @ query.astype(np.float64))
    left = [row for row in range(len(ids)) if allowed[row] and ids[row] not in gone]
    best = sorted(left, key=lambda row: (-scores[row], ids[row]))[:k]
    return [(ids[row], float(scores[row])) for row in best]


@pytest.fixture(scope="session")
def brute() -> Callable[..., list[tuple[Any, float]]]:
    """The k best (id, score) for one query, by float64 sums and a plain sort: score, then id."""
    return _brute


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _vector_table(schema: pa.Schema, vectors: Any, **given: Any) -> pa.Table:
    arrays = {EMBEDDING: pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])}
    for name, values in given.items():
        arrays[name] = pa.array(values, schema.field(name).type)
    missing = [pa.nulls(len(vectors), field.type) for field in schema]
    return pa.table(
        [arrays.get(field.name, empty) for field, empty in zip(schema, missing, strict=True)], schema=schema
    )


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Release]:
    """A staged release with titles, members in two shards, and histories; ids int64 or str."""

    def make(titles: Any, members: Any, folder: str = "w", text: bool = False, **given: Any) -> Release:
        workspace = Workspace.open(str(tmp_path / folder))
        release_id = workspace.new_release_id("3f9a", NIGHT)
        plan = Plan(
            release_id=release_id,
            plan_hash="3f9a",
            lake="lake",
            as_of=NIGHT,
            created_at=NIGHT,
            model_id="m",
            space_id=given.pop("space_id", "1"),
            reference_release=None,
            previous_release=None,
            shards=2,
            config={},
        )
        release = Release(workspace.uri, release_id)
        release.storage.write("plan.json", plan.model_dump_json().encode())
        kind = pa.string() if text else pa.int64()
        ids = given.pop("ids", None)
        title_ids = ids or [f"t{i:04d}" if text else 10 * i for i in range(len(titles))]
        member_ids = ids or [f"m{i:04d}" if text else i for i in range(len(members))]
        schema = title_vector_schema(kind, titles.shape[1])
        table = _vector_table(schema, titles, title_id=title_ids, **given)
        release.write_table("titles/part-00000.parquet", table)
        for shard in range(2):
            part = slice(shard, None, 2)
            schema = member_vector_schema(kind, members.shape[1])
            table = _vector_table(schema, np.ascontiguousarray(members[part]), member_id=member_ids[part])
            release.write_table(f"members/part-{shard:05d}.parquet", table)
            seen = [title_ids[: row % 5] for row in range(shard, len(members), 2)]
            schema = history_schema(kind, kind)
            rows = [{"member_id": m, "title_id": s} for m, s in zip(member_ids[part], seen, strict=True)]
            release.write_table(f"histories/part-{shard:05d}.parquet", pa.Table.from_pylist(rows, schema=schema))
        return release

    return make
