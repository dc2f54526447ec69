"""Nights that are stopped by Ctrl-C or SIGTERM at random moments, and run again: nothing held, nothing lost.

Each trial is a night of its own workspace, run by the installed command in a folder where an encoder of the user's own
lies, and beside it folders that have the names of our packages. It is stopped once, at a random moment; then the exit
code must be that of the signal, no process may be left, the lease must be given back, and the same command must end
with the vectors of a night that nothing disturbed.

    python tests/chaos/stopping.py --stops 20

Prints one line of JSON for each trial and one at the end; exit code 1 where a trial fails.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402  (the path comes first)

from stores.lake.simulation.simulate import SimulationConfig, simulate  # noqa: E402
from stores.releases.lease import LEASE_FILE as LEASE  # noqa: E402
from stores.releases.lease import current_lease  # noqa: E402
from stores.releases.workspace import Workspace  # noqa: E402

OWN_MODEL = """
import numpy as np

class MyEncoder:
    model_id, dim = "mine", 8

    def _vector(self, title):
        return np.random.default_rng(title).normal(size=self.dim)

    def encode_titles(self, titles):
        return np.stack([self._vector(one) for one in titles["title_id"].to_pylist()]).astype(np.float32)

    def encode_members(self, histories):
        lists = histories["title_id"].to_pylist()
        return np.stack([np.mean([self._vector(one) for one in ids], axis=0) for ids in lists]).astype(np.float32)
"""
SHADOWS = ("pipeline", "validation", "stores", "embeddings")
SETTINGS = ("encode.encoder=my_model:MyEncoder", "ray.num_cpus=2", "histories.members_per_shard=40")


def folder_of_a_user(place: Path) -> None:
    """An encoder, and folders that have our names but nothing of ours in them."""
    (place / "my_model.py").write_text(OWN_MODEL)
    for name in SHADOWS:
        (place / name).mkdir()
        (place / name / "__init__.py").write_text("raise ImportError('this is the folder of the user')\n")
    simulate(str(place / "lake"), SimulationConfig(members=200, titles=80, days=20, seed=3))


def night(place: Path, workspace: str, *more: str) -> "subprocess.Popen[str]":
    """The installed command as a process of its own session; nothing but the folder is on its path."""
    command = [str(Path(sys.executable).with_name("samespace")), "nightly", "--lake", "lake", "--workspace", workspace]
    chosen = [word for setting in SETTINGS for word in ("--set", setting)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--as-of", "2026-01-02", "--json", *chosen, *more],
        cwd=place,
        env={**environment, "RAY_worker_niceness": "0"},
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def vectors(place: Path, workspace: str) -> dict[str, Any]:
    """Ids and vectors of the live release, in the order of the ids."""
    release, found = Workspace.open(str(place / workspace)).current(), {}
    for kind, dataset in (("member", release.members()), ("title", release.titles())):
        table = dataset.to_table(columns=[f"{kind}_id", "embedding"]).sort_by(f"{kind}_id")
        found[kind] = table.to_pylist()
    return found


def stopped(process: "subprocess.Popen[str]", number: signal.Signals) -> dict[str, Any]:
    """Send a signal; how the process ended, how fast, and whether any of its children lives on."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    began = time.monotonic()
    process.send_signal(number)
    told, aside = process.communicate(timeout=120)
    took = time.monotonic() - began
    _, alive = psutil.wait_procs(children, timeout=10)
    return {
        "code": process.returncode,
        "seconds": round(took, 1),
        "left": [child.pid for child in alive],
        "trace": "Traceback" in aside or "***" in aside,
        "told": aside[-3000:],
        "lines": told.splitlines(),
    }


def free(place: Path, workspace: str) -> bool:
    """Nothing holds the workspace, and what held it gave it back."""
    storage = Workspace.open(str(place / workspace)).storage
    return current_lease(storage) is None and (not storage.exists(LEASE) or b"released" in storage.read(LEASE))


def trial(place: Path, name: str, number: signal.Signals, wait_s: float, expected: dict[str, Any]) -> dict[str, Any]:
    """One night stopped after so many seconds and run again; `faults` says what was wrong."""
    process = night(place, name)
    time.sleep(wait_s)
    found = stopped(process, number)
    faults = []
    early = {-number, 0}  # before the command began, or after it was over
    if found["code"] not in {128 + number, *early}:
        faults.append(f"exit {found['code']}")
    if found["code"] == 128 + number and "to resume" not in found["told"]:
        faults.append("no message")
    faults += [f"left {found['left']}"] * bool(found["left"]) + ["a trace"] * found["trace"]
    faults += [] if free(place, name) else ["the lease is held"]
    again = night(place, name)
    told, aside = again.communicate()
    if again.returncode != 0:
        faults.append(f"the next run exits {again.returncode}: {told}{aside[-2000:]}")
    elif vectors(place, name) != expected:
        faults.append("other vectors")
    facts = {"signal": number.name, "after_s": round(wait_s, 1), "seconds": found["seconds"], "code": found["code"]}
    return {**facts, "faults": faults, **({"told": found["told"]} if faults else {})}


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice, wrong = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory(prefix="st") as folder:
        place = Path(folder)
        folder_of_a_user(place)
        began = time.monotonic()
        undisturbed = night(place, "undisturbed")
        told, aside = undisturbed.communicate()
        assert undisturbed.returncode == 0, told + aside
        span, expected = time.monotonic() - began, vectors(place, "undisturbed")
        print(json.dumps({"undisturbed_s": round(span, 1)}), flush=True)
        for count in range(args.stops):
            number = dice.choice([signal.SIGINT, signal.SIGTERM])
            found = trial(place, f"ws{count}", number, dice.uniform(0.0, span), expected)
            wrong += bool(found["faults"])
            print(json.dumps({"trial": count, **found}), flush=True)
    print(json.dumps({"stops": args.stops, "wrong": wrong}))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
