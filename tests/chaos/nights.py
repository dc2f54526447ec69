"""A night is killed with kill -9 at random moments, run again, and compared with a night that nobody disturbed.

    python tests/chaos/nights.py --kills 100 [--seed 1] [--minutes 7]

Every trial begins with the same workspace: a model and one published night. A night is started, killed with all its
processes after a random part of the time that an undisturbed one takes, and then run to its end. What must be equal:
the ids, decisions and vectors of the release and what Feast serves, bit for bit. Release id and times differ.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice, and starve where the machine is shared

from stores.lake.simulate import SimulationConfig, simulate
from stores.release import Release
from stores.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pipeline.nightly", "pipeline.commands.nightly", "feast", "torch"])
SETTINGS = ["ray.num_cpus=2", "gate.quality.min_ratio_to_popularity=0", "histories.members_per_shard=60"]
STEPS = [f"train.training.{name}_steps=40" for name in ("min", "max")]
TIMES = ("release_id", "encoded_at")


def command(*words: str) -> list[str]:
    """The words of a samespace command on the workspace of the folder that it runs in."""
    settings = [part for setting in [*SETTINGS, *STEPS] for part in ("--set", setting)]
    return [*words, "--workspace", "ws", "--json", *settings]


@contextmanager
def night(place: Path, lake: Path, as_of: str = "2026-01-01") -> Iterator[Any]:
    """A night in a process group of its own that does not outlive the block; it begins with everything imported."""
    process = CONTEXT.Process(target=_night, args=(place, command("nightly", "--lake", str(lake), "--as-of", as_of)))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _night(place: Path, words: list[str]) -> None:
    from pipeline.cli import main

    os.setsid()
    os.chdir(place)
    os.environ["PYTHONPATH"] = str(ROOT)  # for Ray's workers
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(words))


def content(place: Path) -> dict[str, Any]:
    """What a night decided and published, without ids of releases and times."""
    from feast import FeatureStore

    release = Workspace.open(str(place / "ws")).current()
    found: dict[str, Any] = {"space": release.space_id, "model": release.manifest.model_id, "faults": release.verify()}
    found["outcome"] = release.manifest.status, _metric(release, "align", "outcome")
    store = FeatureStore(repo_path=str(place / "ws" / "feast"))
    for folder, key in (("members", "member_id"), ("titles", "title_id")):
        table = release.storage.dataset(folder).to_table().sort_by(key)
        kept = [name for name in table.column_names if name not in TIMES]
        found[folder] = _bytes(table.select(kept))
        ids = table[key].to_pylist()
        view = f"{folder[:-1]}_embedding:embedding"
        served = store.get_online_features([view], [{key: one} for one in ids]).to_dict()["embedding"]
        assert served == [[float(x) for x in row] for row in table["embedding"].to_pylist()], f"{folder} online"
    found["index"] = {
        path: release.storage.read(path) for path in release.storage.files("index") if path.endswith(".faiss")
    }
    return found


def _metric(release: Release, stage: str, name: str) -> Any:
    report = release.report(stage)
    return report.metrics.get(name) if report else None


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue().to_pybytes())


def killed(place: Path, lake: Path, after: float) -> bool:
    """Run a night for some seconds and kill all of it; whether it was still running."""
    with night(place, lake) as process:
        process.join(after)
        return bool(process.is_alive())


def prepared(place: Path) -> Path:
    """A lake, and a workspace with a model and one published night; the lake's folder."""
    lake = place / "lake"
    simulate(str(lake), SimulationConfig(members=240, titles=120, days=30, seed=3))
    first = place / "first"
    first.mkdir()
    complete(first, lake, "2025-12-30")
    return lake


def complete(place: Path, lake: Path, as_of: str = "2026-01-01") -> float:
    """Run a night to its end; the seconds it took. Raises RuntimeError with its last words where it fails."""
    began = time.monotonic()
    with night(place, lake, as_of) as process:
        process.join(600)
        if process.exitcode != 0:
            raise RuntimeError((place / "log.txt").read_text()[-2000:])
    return time.monotonic() - began


def trial(place: Path, lake: Path, after: float | None) -> tuple[dict[str, Any], bool, float]:
    """Content of a night killed after some seconds (None: undisturbed), whether it was, and how long the rest took."""
    shutil.copytree(place / "first" / "ws", place / "trial" / "ws")
    hit = after is not None and killed(place / "trial", lake, after)
    taken = complete(place / "trial", lake)
    found = content(place / "trial")
    shutil.rmtree(place / "trial")
    return found, hit, taken


def main() -> int:
    """Exit code 1 where a killed night ended otherwise than an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial later than this")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    random_, wrong, hits, number, end = random.Random(args.seed), [], 0, 0, time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lake = prepared(place)
        expected, _, whole = trial(place, lake, None)
        while number < args.kills and time.monotonic() < end:
            number += 1
            after = random_.uniform(0, whole)
            found, hit, _ = trial(place, lake, after)
            hits += hit
            differs = [name for name in expected if expected[name] != found[name]]
            wrong += [{"trial": number, "killed_after": round(after, 3), "differs": differs}] if differs else []
            print(
                f"{number}/{args.kills}  {after:6.2f} s  {'killed' if hit else 'over'}  {differs or 'equal'}",
                flush=True,
            )
    print(json.dumps({"trials": number, "killed": hits, "night_s": round(whole, 2), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
