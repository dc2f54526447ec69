"""Nights written up to the histories, and a small model of one's own that encodes them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stores.releases.release import Manifest, Plan, Release, StageReport
from stores.schema import catalogue_schema, history_schema

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
SHARDS = 3


class Nights:
    """Stages releases of one workspace whose members have the histories given."""

    def __init__(self, uri: str) -> None:
        self.uri, self.count = uri, 0

    def stage(self, histories: dict[int, list[int]], before: Release | None = None, **changes: Any) -> Release:
        """A release with `histories` (member → titles) in shards by id, and ten titles."""
        self.count += 1
        when = WHEN + timedelta(days=self.count)
        release_id = f"{when:%Y%m%dT%H%M%SZ}-{self.count:04x}"
        plan = Plan(
            release_id=release_id,
            plan_hash="x",
            lake="",
            as_of=when,
            created_at=when,
            model_id=changes.get("model_id", "titles"),
            space_id="1",
            reference_release=before.release_id if before else None,
            previous_release=before.release_id if before else None,
            shards=SHARDS,
            config={},
        )
        release = Release(self.uri, release_id)
        release.storage.write("plan.json", plan.model_dump_json().encode())
        for shard in range(SHARDS):
            some = {one: titles for one, titles in histories.items() if one % SHARDS == shard}
            release.write_table(f"histories/part-{shard:05d}.parquet", history_table(some))
        release.write_table("work/catalogue.parquet", catalogue_table(range(10)))
        return release

    def seal(self, release: Release, encode: StageReport, native: Callable[[Any], Any] = lambda x: x) -> Release:
        """Publish native vectors through `native` as aligned ones."""
        for path in release.storage.files("work/native"):
            table = release.storage.read_table(path)
            aligned = native(matrix(table)).astype(np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(aligned.ravel()), aligned.shape[1])
            release.write_table(path.removeprefix("work/native/"), table.set_column(1, "embedding", column))
        found: Manifest = release.seal([], [encode], {})
        assert found.status == "ready"
        return Release(self.uri, release.release_id)


def matrix(table: pa.Table) -> Any:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)


def history_table(histories: dict[int, list[int]]) -> pa.Table:
    schema = history_schema(pa.int64(), pa.int64())
    rows = [
        {
            **{field.name: [None] * len(titles) for field in schema if pa.types.is_list(field.type)},
            "member_id": member,
            "title_id": titles,
            "event_time": WHEN,
            "history_hash": str(titles),
        }
        for member, titles in histories.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def catalogue_table(ids: Any) -> pa.Table:
    return pa.Table.from_pylist([{"title_id": one} for one in ids], schema=catalogue_schema(pa.int64()))


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(str(tmp_path / "ws"))
