"""Encode jobs whose workers and nodes are killed at random moments; each must end with the vectors of an untouched one.

The cluster has a head and two nodes, all on this machine; a node that was killed is replaced after the job. Every other
job is a first night; those between carry a quarter of the members forward and write the rest in the space at once.

    python tests/chaos/encoding.py --trials 20 --kills 2 --nodes 1

Prints one line of JSON for each trial and one at the end; exit code 1 where a trial differs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests" / "embeddings"
os.environ["PYTHONPATH"] = os.pathsep.join([str(OWN), str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("RAY_worker_niceness", "0")
sys.path[:0] = [str(OWN), str(ROOT)]

import psutil  # noqa: E402  (the paths come first)
import pyarrow as pa  # noqa: E402
import ray  # noqa: E402
from conftest import Nights, matrix  # type: ignore[import-not-found]  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from embeddings.encode import job  # noqa: E402
from embeddings.encode.config import EncodeConfig  # noqa: E402
from embeddings.encode.reuse import ReusableVectors  # noqa: E402
from stores.releases.release import Release  # noqa: E402

HISTORIES = {member: [member % 10, (3 * member) % 10] for member in range(60)}
TONIGHT = {member: [*titles, member % 7] if member % 4 else titles for member, titles in HISTORIES.items()}


class Killer(threading.Thread):
    """Kills workers and nodes of the job at random moments, in random order."""

    def __init__(self, cluster: Cluster, kills: int, nodes: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.random, self.going = cluster, random.Random(seed), True
        self.left = ["worker"] * kills + ["node"] * nodes
        self.random.shuffle(self.left)
        self.killed = {"worker": 0, "node": 0}

    def run(self) -> None:
        """Until there is nothing left to do."""
        while self.going and self.left:
            time.sleep(self.random.uniform(0.2, 1.5))
            workers = [one for one in psutil.Process().children(recursive=True) if "ShardWorker" in _title(one)]
            if workers and self.going:
                what = self.left.pop()
                if what == "worker":
                    os.kill(self.random.choice(workers).pid, signal.SIGKILL)
                else:
                    others = [node for node in self.cluster.list_all_nodes() if node is not self.cluster.head_node]
                    self.cluster.remove_node(self.random.choice(others), allow_graceful=False)
                self.killed[what] += 1


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def rows(release: Release) -> list[dict[str, Any]]:
    """What must be the same, and once each."""
    folder = job.MEMBERS if release.storage.exists(job.MEMBERS) else job.NATIVE_MEMBERS
    table = release.storage.dataset(folder).to_table()
    found: list[dict[str, Any]] = table.select(["member_id", "embedding", "history_hash"]).to_pylist()
    return found


def turned(table: pa.Table) -> pa.Table:
    """Native rows in the space of these trials."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(-matrix(table).ravel()), matrix(table).shape[1])
    return table.set_column(table.schema.get_field_index("embedding"), "embedding", column)


class Jobs:
    """Encode jobs of first nights, and of nights that carry members forward from one of them."""

    def __init__(self, folder: str) -> None:
        self.nights = Nights(f"{folder}/ws")
        self.config = EncodeConfig(encoder="own_models:Slow", model=folder, batch_size=5)
        first = self.nights.stage(HISTORIES)
        report, native = job.run(self.config, first), rows(first)
        self.live = self.nights.seal(first, report, lambda vectors: -vectors)
        self.expected = [native, self.run(carrying=True)]

    def run(self, carrying: bool, killer: Killer | None = None) -> list[dict[str, Any]]:
        """The rows of one job, disturbed by `killer`."""
        release = self.nights.stage(TONIGHT if carrying else HISTORIES, self.live if carrying else None)
        if killer:
            killer.start()
        report = job.run(self.config, release, ReusableVectors(self.live, turned) if carrying else None)
        if killer:
            killer.going = False
            killer.join()
        assert report.metrics["carried"] == (len(HISTORIES) // 4 if carrying else 0)
        return rows(release)


def complete(cluster: Cluster) -> None:
    """A head and two nodes; Ray adds nodes in the main thread alone."""
    while len(cluster.list_all_nodes()) < 3:
        cluster.add_node(num_cpus=1)


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2, help="workers killed in each trial")
    parser.add_argument("--nodes", type=int, default=1, help="nodes killed in each trial")
    args = parser.parse_args()
    wrong, killed = 0, {"worker": 0, "node": 0}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    complete(cluster)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            jobs = Jobs(folder)
            for number in range(args.trials):
                complete(cluster)
                killer = Killer(cluster, args.kills, args.nodes, number)
                same = jobs.run(bool(number % 2), killer) == jobs.expected[number % 2]
                wrong += not same
                killed = {what: killed[what] + killer.killed[what] for what in killed}
                print(json.dumps({"trial": number, "killed": killer.killed, "same": same}), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps({"trials": args.trials, "killed": killed, "wrong": wrong}))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
