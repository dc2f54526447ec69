"""How long a command takes to start: medians of whole processes, beside Python doing nothing.

Wall time is what a person waits; processor time is what the command needs, also while the machine has other work.

    python benchmarks/commands.py [--workspace ws] [--size small|full] [--json]

The most played title of the workspace's live release is asked for; without a workspace a release of 10,000 made-up
titles is published first. Commands and the floor take turns.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serve import publish

from stores.releases.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"small": 5, "full": 15}
BAR_S = {"--help": 0.3, "similar": 1.0}


def seconds(words: list[str], folder: str) -> tuple[float, float]:
    """Wall and processor seconds of one process, from start to end, in a folder without configuration."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False)
    spent, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(uri: str) -> dict[str, list[str]]:
    """The commands that are timed, by the name in the table."""
    release = Workspace.open(uri).current()
    titles = release.titles().to_table(columns=["title_id", "plays"]).sort_by([("plays", "descending")])
    member = release.members().head(1, columns=["member_id"])["member_id"][0].as_py()
    samespace = [sys.executable, "-m", "pipeline.cli"]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "--help": [*samespace, "--help"],
        "similar": [*samespace, "similar", str(titles["title_id"][0].as_py()), "--workspace", uri],
        "candidates": [*samespace, "candidates", str(member), "--workspace", uri],
        "releases": [*samespace, "releases", "--workspace", uri],
    }


def measure(uri: str, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each command, run in turns from an empty folder."""
    words = commands(uri)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in words}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, line in words.items():
                spent[name].append(seconds(line, folder))
    return spent


def main() -> None:
    """Print medians and, if asked, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace")
    parser.add_argument("--size", choices=RUNS, default="small")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.workspace is None:
            publish(folder, 10_000, 1_000)
        spent = measure(str(Path(args.workspace or folder).resolve()), RUNS[args.size])
    medians = {name: [statistics.median(kind) for kind in zip(*times, strict=True)] for name, times in spent.items()}
    best = {name: min(wall for wall, _ in times) for name, times in spent.items()}
    print(f"{'command':16}{'wall s':>9}{'best s':>9}{'cpu s':>9}{'bar s':>8}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:16}{wall:9.3f}{best[name]:9.3f}{cpu:9.3f}{BAR_S.get(name, ''):>8}")
    if args.json:
        print(json.dumps(result(args.size, medians, best)))


def result(size: str, medians: dict[str, list[float]], best: dict[str, float]) -> dict[str, Any]:
    """The benchmark's one result object: seconds that a person waits for `similar`."""
    ours, floor = medians["similar"][0], medians["python -c pass"][0]
    wall, cpu = ({name: kinds[place] for name, kinds in medians.items()} for place in (0, 1))
    return {
        "stage": "commands",
        "size": size,
        "ours": ours,
        "floor": floor,
        "peers": {},
        "unit": "s",
        "ratio_floor": floor / ours,
        "ratios": {},
        "ratio_best_peer": None,
        "quality": {"wall": wall, "cpu": cpu, "best": best},
    }


if __name__ == "__main__":
    main()
