"""A night is killed with kill -9 at random moments, run again, and compared with a night that nobody disturbed.

    python tests/chaos/nights.py --kills 100

Every trial begins with the same workspace: a model and one published night. A night is started, killed with all its
processes after a random part of the time that an undisturbed one takes, and then run to its end. What must be equal:
the ids, decisions and vectors of the release and what Feast serves, bit for bit. Release id and times differ.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from stores.lake.simulate import SimulationConfig, simulate
from stores.release import Release
from stores.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ["ray.num_cpus=2", "gate.quality.min_ratio_to_popularity=0", "histories.members_per_shard=60"]
STEPS = [f"train.training.{name}_steps=40" for name in ("min", "max")]
TIMES = ("release_id", "encoded_at")


def command(*words: str) -> list[str]:
    """A samespace command on the workspace of the folder that it runs in."""
    settings = [part for setting in [*SETTINGS, *STEPS] for part in ("--set", setting)]
    return [sys.executable, "-m", "pipeline.cli", *words, "--workspace", "ws", "--json", *settings]


def night(place: Path, lake: Path) -> subprocess.Popen[bytes]:
    """A night as of a fixed moment, in a process group of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command("nightly", "--lake", str(lake), "--as-of", "2026-01-02")
    log = (place / "log.txt").open("ab")
    return subprocess.Popen(words, cwd=place, env=env, stdout=log, stderr=log, start_new_session=True)


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
    process = night(place, lake)
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def prepared(place: Path) -> Path:
    """A lake, and a workspace with a model and one published night; the lake's folder."""
    lake = place / "lake"
    simulate(str(lake), SimulationConfig(members=240, titles=120, days=30, seed=3))
    first = place / "first"
    first.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command("nightly", "--lake", str(lake), "--as-of", "2026-01-01")
    subprocess.run(words, cwd=first, env=env, check=True, capture_output=True)
    return lake


def trial(place: Path, lake: Path, after: float | None) -> tuple[dict[str, Any], bool, float]:
    """Content of a night killed after some seconds (None: undisturbed), whether it was, and how long the rest took."""
    shutil.copytree(place / "first" / "ws", place / "trial" / "ws")
    hit = after is not None and killed(place / "trial", lake, after)
    began = time.monotonic()
    last = night(place / "trial", lake)
    if last.wait(600):
        raise RuntimeError((place / "trial" / "log.txt").read_text()[-2000:])
    taken, found = time.monotonic() - began, content(place / "trial")
    shutil.rmtree(place / "trial")
    return found, hit, taken


def main() -> int:
    """Exit code 1 where a killed night ended otherwise than an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random_, wrong, hits = random.Random(args.seed), [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lake = prepared(place)
        expected, _, whole = trial(place, lake, None)
        for number in range(args.kills):
            after = random_.uniform(0, whole)
            found, hit, _ = trial(place, lake, after)
            hits += hit
            differs = [name for name in expected if expected[name] != found[name]]
            wrong += [{"trial": number, "killed_after": round(after, 3), "differs": differs}] if differs else []
            print(
                f"{number + 1}/{args.kills}  {after:6.2f} s  {'killed' if hit else 'over'}  {differs or 'equal'}",
                flush=True,
            )
    print(json.dumps({"trials": args.kills, "killed": hits, "night_s": round(whole, 2), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
