"""Encode jobs whose workers are killed at random moments; every one must end with the vectors of an undisturbed one.

    python tests/chaos/encoding.py --trials 20 --kills 3

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
from conftest import Nights  # type: ignore[import-not-found]  # noqa: E402

from embeddings import job  # noqa: E402
from embeddings.encode_config import EncodeConfig  # noqa: E402
from pipeline.cluster import RayConfig, cluster  # noqa: E402
from stores.release import Release  # noqa: E402

HISTORIES = {member: [member % 10, (3 * member) % 10] for member in range(60)}


class Killer(threading.Thread):
    """Kills workers of the job, some time after they began."""

    def __init__(self, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.random, self.left, self.killed, self.going = random.Random(seed), kills, 0, True

    def run(self) -> None:
        """Until there is nothing left to do."""
        while self.going and self.left:
            time.sleep(self.random.uniform(0.2, 1.5))
            workers = [one for one in psutil.Process().children(recursive=True) if "ShardWorker" in _title(one)]
            if workers and self.going:
                os.kill(self.random.choice(workers).pid, signal.SIGKILL)
                self.left -= 1
                self.killed += 1


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def rows(release: Release) -> list[dict[str, Any]]:
    """What must be the same, and once each."""
    table = release.storage.dataset(job.NATIVE_MEMBERS).to_table()
    found: list[dict[str, Any]] = table.select(["member_id", "embedding", "history_hash"]).to_pylist()
    return found


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    wrong = killed = 0
    with tempfile.TemporaryDirectory() as folder, cluster(RayConfig(num_cpus=2)):
        nights = Nights(f"{folder}/ws")
        config = EncodeConfig(encoder="own_models:Slow", model=folder, batch_size=5)
        expected = nights.stage(HISTORIES)
        job.run(config, expected)
        for trial in range(args.trials):
            release, killer = nights.stage(HISTORIES), Killer(args.kills, trial)
            killer.start()
            report = job.run(config, release)
            killer.going = False
            same = rows(release) == rows(expected)
            wrong, killed = wrong + (not same), killed + killer.killed
            print(
                json.dumps(
                    {"trial": trial, "killed": killer.killed, "lost": report.metrics["workers_lost"], "same": same}
                )
            )
            sys.stdout.flush()
    print(json.dumps({"trials": args.trials, "killed": killed, "wrong": wrong}))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
