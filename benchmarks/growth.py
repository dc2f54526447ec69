"""Growth: whole nights on growing numbers of members, fifty events each; time and peak memory.

The lake is written file by file, so that its size is bounded by the disk. Peak memory is the largest sum of the
proportional set sizes of this process and its children, Ray's own among them. Every night is the first of a workspace
and runs in a process of its own, with an untrained model of the default size. `exponent` is the slope of log time over
log members: 1 is linear. The floor is the first size in proportion.

    python benchmarks/growth.py --size full
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from staging import simulated

# Beside this script lie others named as packages of ours.
sys.path.remove(str(Path(__file__).resolve().parent))

from embeddings.foundation import train
from embeddings.foundation.config import FoundationConfig, TrainingConfig
from pipeline.config import read_config
from pipeline.console import ConsoleReporter
from pipeline.nightly import run_night
from pipeline.run_plan import NightRequest
from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes
from stores.releases.workspace import Workspace
from stores.schema import TIMESTAMP_TYPE

SIZES = {"small": (500, 2_000), "medium": (20_000, 200_000), "full": (200_000, 2_000_000)}
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
                "event_time": pa.array(times).cast(TIMESTAMP_TYPE),
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


def one_night(members: int, lake: str, uri: str) -> dict[str, Any]:
    """Seconds of a night and of its stages, and the peak of memory."""
    watch, began = Watch(), time.perf_counter()
    watch.start()
    # The lake is drawn at random, so that no model is better than popularity.
    config = read_config(None, ["gate.quality.min_ratio_to_popularity=0"], lake=lake, workspace=uri)
    night = run_night(config, NightRequest(as_of=WHEN), ConsoleReporter(as_json=True))
    watch.going = False
    seconds = time.perf_counter() - began
    assert night.live, night.manifest.reasons
    stages = {report.name: report.seconds for report in [*night.manifest.stages, *night.after]}
    return {"members": members, "seconds": seconds, "peak_mb": watch.peak / 2**20, "stages": stages}


def measure(size: str, folder: Path) -> dict[str, Any]:
    """Every number of members in turn."""
    few, catalogue = simulated(folder)
    config, found = FoundationConfig(training=TrainingConfig(min_steps=5, max_steps=5)), []
    titles = catalogue.select(["title_id", "name"])
    for members in SIZES[size]:
        lake, uri = folder / f"lake{members}", folder / f"ws{members}"
        write_lake(Storage(str(lake)), members, titles)
        workspace = Workspace.open(str(uri))
        workspace.set_next_model(train(few, catalogue, config, 0, workspace.models.uri).model_id)
        alone = [sys.executable, __file__, "--night", str(members), str(lake), str(uri)]
        found.append(json.loads(subprocess.run(alone, check=True, stdout=subprocess.PIPE, text=True).stdout))
        shutil.rmtree(lake)
        shutil.rmtree(uri)
    took = np.array([row["seconds"] for row in found])
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
            "nights": found,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--night", nargs=3, metavar=("MEMBERS", "LAKE", "WORKSPACE"), help="one night alone")
    args = parser.parse_args()
    if args.night:
        print(json.dumps(one_night(int(args.night[0]), *args.night[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.size, Path(folder))
    if not args.json:
        for row in found["quality"]["nights"]:
            stages = "  ".join(f"{name} {value:,.1f}" for name, value in row["stages"].items())
            print(f"{row['members']:,} members: {row['seconds']:,.1f} s, {row['peak_mb']:,.0f} MB;  {stages}")
        print(
            f"exponent {found['quality']['exponent']:.3f}, memory {found['quality']['memory_ratio']:.3f} of the first"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
