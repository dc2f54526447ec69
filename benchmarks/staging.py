"""What comes before the encode stage, without a night: histories of a simulated service, grown to any size, staged."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings.histories.changed_histories import write_changed_histories
from embeddings.histories.job import HistoriesConfig, read_histories
from embeddings.histories.sharding import shards_for
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.release import Plan, Release
from stores.schema import HISTORY_HASH, MEMBER_ID

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def simulated(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Histories and catalogue of a simulated service of two thousand members."""
    simulate(str(folder / "lake"), SimulationConfig(members=2000, titles=2000, days=60))
    found: tuple[pa.Table, pa.Table] = read_histories(Lake.open(str(folder / "lake")), WHEN, HistoriesConfig(), None)
    return found


def service(few: pa.Table, members: int) -> Iterator[pa.Table]:
    """As many members in shards, each with the history of one of those given and a hash of its own."""
    shards = shards_for(members)
    size = -(-members // shards)
    for shard, first in enumerate(range(0, members, size)):
        ids = np.arange(first, min(first + size, members))
        rows = few.take(np.random.default_rng(shard).integers(0, few.num_rows, len(ids)))
        rows = rows.set_column(0, MEMBER_ID, pa.array(ids, rows.schema.field(0).type))
        place = rows.schema.get_field_index(HISTORY_HASH)
        hashes = [hashlib.sha256(b"%d" % one).hexdigest()[:32] for one in ids]
        yield rows.set_column(place, HISTORY_HASH, pa.array(hashes, pa.string()))


def staged(
    uri: str, name: str, shards: Iterable[pa.Table], catalogue: pa.Table, model_id: str, live: Release | None = None
) -> Release:
    """A release with everything that comes before the encode stage, as the histories stage writes it."""
    release, count = Release(uri, f"20260101T00000{name}Z-abcd"), 0
    for table in shards:
        shard = f"part-{count:05d}.parquet"
        release.write_table(f"histories/{shard}", table)
        if live:
            write_changed_histories(release, live, shard, table)
        count += 1
    release.write_table("work/catalogue.parquet", catalogue)
    plan = Plan(
        release_id=release.release_id,
        plan_hash="",
        lake="",
        as_of=WHEN,
        created_at=WHEN,
        model_id=model_id,
        space_id="1",
        reference_release=live.release_id if live else None,
        previous_release=live.release_id if live else None,
        shards=count,
        config={},
    )
    release.storage.write("plan.json", plan.model_dump_json().encode())
    return release
