"""Histories: from the lake's events to tokens by member, in shards.

The floor is a DuckDB scan that brings every column of the interactions as Arrow batches and does nothing with them;
the peer is pandas, which holds all events in memory, sorts them and makes lists with a group-by (nothing is judged,
merged or hashed). Each runs in a process of its own, on all cores, so that its largest memory is its own; ours is
also run on half of the members, to see whether memory grows with them.

    python benchmarks/histories.py --size full
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from growth import EVENTS, WHEN, write_lake  # which takes this folder, with its namesakes of our packages, off the path

from embeddings.histories import job
from embeddings.histories.config import HistoriesConfig
from embeddings.histories.sharding import shards_for
from stores.files.filesystem import Storage
from stores.releases.release import Plan, Release

SIZES = {"small": 20_000, "full": 400_000}
TITLES, ROUNDS = 2_000, 2


def ours(lake: Path, members: int) -> int:
    """The stage of the night; the events it accepted."""
    with tempfile.TemporaryDirectory() as folder:
        release = Release(folder, "20260101T000000Z-0000")
        facts = {"release_id": release.release_id, "plan_hash": "0", "lake": str(lake), "model_id": "m", "config": {}}
        moments = {"as_of": WHEN, "created_at": WHEN, "shards": shards_for(members), "space_id": "1"}
        plan = Plan(**facts, **moments, reference_release=None, previous_release=None)
        release.storage.write("plan.json", plan.model_dump_json().encode())
        return int(job.run(HistoriesConfig(), release).metrics["events_accepted"])


def floor(lake: Path, _: int) -> int:
    """Every column of every event, as Arrow; the events."""
    import duckdb

    reader = duckdb.connect().execute(f"SELECT * FROM '{lake}/interactions/*.parquet'").to_arrow_reader(1_000_000)
    return sum(batch.num_rows for batch in reader)


def pandas(lake: Path, _: int) -> int:
    """Sorted events as lists by member, in memory; the events."""
    import pandas as pd

    events = pd.read_parquet(lake / "interactions").sort_values(["member_id", "event_time"])
    lists = events.groupby("member_id", sort=False).agg(list)
    return int(lists["title_id"].str.len().sum())


WAYS: dict[str, Callable[[Path, int], int]] = {"ours": ours, "floor": floor, "pandas": pandas}


def alone(way: str, lake: Path, members: int) -> tuple[float, float]:
    """Seconds of a way in a process of its own, imports left out, and how much memory it took, MB."""
    words = [sys.executable, __file__, "--way", way, str(lake), str(members)]
    seconds, grown, events = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    assert events == members * EVENTS, f"{way} found {events} events"
    return float(seconds), float(grown)


def measured_here(way: str, lake: Path, members: int) -> tuple[float, float, int]:
    """What `alone` is told by the process that it starts."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    events = WAYS[way](lake, members)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return time.perf_counter() - began, grown / 1024, events


def run(size: str, folder: Path) -> dict[str, Any]:
    """The benchmark's one result object; speeds are events per second, best of the rounds."""
    members = SIZES[size]
    titles = pa.table({"title_id": range(TITLES), "name": [f"Title {one}" for one in range(TITLES)]})
    for count in (members, members // 2):
        write_lake(Storage(str(folder / str(count))), count, titles)
    found = {way: [alone(way, folder / str(members), members) for _ in range(ROUNDS)] for way in WAYS}
    half = alone("ours", folder / str(members // 2), members // 2)
    speed = {way: members * EVENTS / min(seconds for seconds, _ in runs) for way, runs in found.items()}
    memory = {way: max(grown for _, grown in runs) for way, runs in found.items()}
    return {
        "stage": "histories",
        "size": size,
        "ours": speed["ours"],
        "floor": speed["floor"],
        "peers": {"pandas": speed["pandas"]},
        "unit": "events/s",
        "ratio_floor": speed["ours"] / speed["floor"],
        "ratios": {"pandas": speed["ours"] / speed["pandas"]},
        "ratio_best_peer": speed["ours"] / speed["pandas"],
        "quality": {"events": members * EVENTS, "memory_mb": memory, "memory_of_half": memory["ours"] / half[1]},
    }


def main() -> None:
    """Measure, print a table and, with --json, the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        way, lake, members = args.way
        print(json.dumps(measured_here(way, Path(lake), int(members))))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = run(args.size, Path(folder))
    for name, speed in (("samespace", found["ours"]), ("floor", found["floor"]), *found["peers"].items()):
        print(f"{name:12} {speed:14,.0f} events/s   {found['ours'] / speed:6.2f} x by samespace")
    print(f"memory {found['quality']['memory_mb']} MB, {found['quality']['memory_of_half']:.2f} of half the members'")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
