"""Growth: histories and encode at growing numbers of members, fifty events each; time and peak memory.

The lake is written file by file, so that its size is bounded by the disk. Peak memory is the largest sum of the
proportional set sizes of this process and its children, Ray's own among them. `exponent` is the slope of log time
over log members: 1 is linear. The floor is the first size in proportion.

    python benchmarks/growth.py --size full
"""

import argparse
import json
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from encode import simulated

from embeddings import histories, job
from embeddings.encode_config import EncodeConfig
from embeddings.foundation import train
from embeddings.foundation.config import FoundationConfig, TrainingConfig
from embeddings.histories_config import HistoriesConfig
from embeddings.shards import shards_for
from pipeline.cluster import RayConfig, cluster
from stores.columns import TIME
from stores.release import Plan, Release
from stores.storage import Storage, parquet_bytes
from stores.workspace import Workspace

SIZES = {"small": (1_000, 4_000), "medium": (20_000, 60_000), "full": (200_000, 600_000, 2_000_000)}
EVENTS, TITLES, PART = 50, 2_000, 20_000
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS_US = 60 * 86_400_000_000


def write_lake(storage: Storage, members: int, titles: pa.Table) -> None:
    """Fifty plays for each member at random times of sixty days, one file for each block of members."""
    storage.write("titles/part-0.parquet", parquet_bytes(titles))
    for part, first in enumerate(range(0, members, PART)):
        rng, rows = np.random.default_rng(part), min(PART, members - first) * EVENTS
        times = int(WHEN.timestamp() * 1e6) - rng.integers(1, DAYS_US, rows)
        table = pa.table(
            {
                "member_id": pa.array(np.repeat(np.arange(first, first + rows // EVENTS), EVENTS)),
                "title_id": titles["title_id"].take(pa.array(rng.integers(0, len(titles), rows))),
                "event_time": pa.array(times).cast(TIME),
                "action": pa.array(["play"]).take(pa.array(np.zeros(rows, np.int32))),
                "duration_s": pa.array(rng.integers(60, 6000, rows).astype(np.float64)),
            }
        )
        storage.write(f"interactions/part-{part:05d}.parquet", parquet_bytes(table))


class Watch(threading.Thread):
    """The largest memory of this process and its children, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.going = 0, True

    def run(self) -> None:
        """Look five times a second."""
        while self.going:
            here = psutil.Process()
            total = 0
            for process in [here, *here.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.2)


def one_size(members: int, titles: pa.Table, model_id: str, folder: Path) -> dict[str, float]:
    """Seconds of both stages and the peak of memory."""
    lake = folder / f"lake{members}"
    write_lake(Storage(str(lake)), members, titles)
    shards = shards_for(members)
    plan = Plan(
        release_id=f"{members:08d}T000000Z-abcd",
        plan_hash="",
        lake=str(lake),
        as_of=WHEN,
        created_at=WHEN,
        model_id=model_id,
        space_id="1",
        reference_release=None,
        previous_release=None,
        shards=shards,
        config={},
    )
    release = Release(str(folder / "ws"), plan.release_id)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    watch, marks = Watch(), [time.perf_counter()]
    watch.start()
    histories.run(HistoriesConfig(), release)
    marks.append(time.perf_counter())
    report = job.run(EncodeConfig(), release)
    marks.append(time.perf_counter())
    watch.going = False
    assert report.metrics["members"] == members
    return {
        "members": members,
        "histories_s": marks[1] - marks[0],
        "encode_s": marks[2] - marks[1],
        "peak_mb": watch.peak / 2**20,
    }


def measure(size: str, folder: Path) -> dict[str, Any]:
    """Every number of members in turn."""
    few, catalogue = simulated(folder)
    config = FoundationConfig(training=TrainingConfig(min_steps=5, max_steps=5))
    model = train(few, catalogue, config, 0, Workspace.open(str(folder / "ws")).models.uri)
    titles, found = catalogue.select(["title_id", "name"]), []
    with cluster(RayConfig()):
        for members in SIZES[size]:
            found.append(one_size(members, titles, model.model_id, folder))
    took = np.array([row["histories_s"] + row["encode_s"] for row in found])
    counts = np.array([row["members"] for row in found], float)
    ideal = took[0] * counts[-1] / counts[0]
    return {
        "stage": "growth",
        "size": size,
        "ours": float(took[-1]),
        "floor": float(ideal),
        "peers": {},
        "unit": "s",
        "ratio_floor": float(ideal / took[-1]),
        "ratios": {},
        "ratio_best_peer": None,
        "quality": {
            "exponent": float(np.polyfit(np.log(counts), np.log(took), 1)[0]),
            "memory_ratio": found[-1]["peak_mb"] / found[0]["peak_mb"],
            "sizes": found,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.size, Path(folder))
    if not args.json:
        for row in found["quality"]["sizes"]:
            print("  ".join(f"{name} {value:,.1f}" for name, value in row.items()))
        print(
            f"exponent {found['quality']['exponent']:.3f}, memory {found['quality']['memory_ratio']:.3f} of the first"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
