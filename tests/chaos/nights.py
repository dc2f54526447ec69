"""A night is killed with kill -9 at random moments, run again, and compared with a night that nobody disturbed.

    python tests/chaos/nights.py --kills 100 [--seed 1] [--minutes 7]

Every trial begins with the same workspace: a model and one published night. A night is started, killed with all its
processes after a random part of the time that an undisturbed one takes, and then run to its end. Every optional view
is on. What must be equal: the ids, decisions and vectors of the release and what Feast serves, online and as of both
nights, bit for bit. Release id and times differ.
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
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice, and starve where the machine is shared

from stores.feast.feature_views import EVENT_TIMESTAMP, SPACE_ID, VIEWS, FeatureViewSpec
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.release import Release
from stores.releases.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pipeline.nightly", "pipeline.commands.nightly", "feast", "torch"])
SETTINGS = ["ray.num_cpus=2", "gate.quality.min_ratio_to_popularity=0", "histories.members_per_shard=60"]
VIEWS_ON = ["candidates.enabled=true", *(f"features.{name}=true" for name in ("genres", "semantic_ids", "preferences"))]
STEPS = [f"train.training.{name}_steps=40" for name in ("min", "max")]
TIMES = ("release_id", "encoded_at")


def command(*words: str) -> list[str]:
    """The words of a samespace command on the workspace of the folder that it runs in."""
    settings = [part for setting in [*SETTINGS, *VIEWS_ON, *STEPS] for part in ("--set", setting)]
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

    workspace = Workspace.open(str(place / "ws"))
    release, first = workspace.current(), workspace.releases()[0]
    found: dict[str, Any] = {"space": release.space_id, "model": release.manifest.model_id, "faults": release.verify()}
    found["outcome"] = release.manifest.status, _metric(release, "align", "outcome")
    store = FeatureStore(repo_path=str(place / "ws" / "feast"))
    warnings.filterwarnings("ignore", r"fetch_arrow_table\(\) is deprecated")  # which ibis, and so Feast, calls
    nights = [_live_since(one) for one in (first, release)]
    for view in VIEWS:
        table = _rows(release, view)
        found[view.folder] = _bytes(table.drop_columns([name for name in TIMES if name in table.column_names]))
        wanted = table.select([view.join_key, *view.columns]).to_pylist()
        assert _online(store, view, table[view.join_key]) == wanted, f"{view.name} online"
        ids = pa.concat_arrays([_rows(one, view)[view.join_key].combine_chunks() for one in (first, release)]).unique()
        found[f"{view.name} as of"] = past = _as_of(store, view, ids, nights)
        lived = [row for row in past[len(ids) :] if row[SPACE_ID]]
        assert lived == [row | {SPACE_ID: release.space_id} for row in wanted], f"{view.name} as of the night"
    found["index"] = {
        path: release.storage.read(path) for path in release.storage.files("index") if path.endswith(".faiss")
    }
    return found


def _rows(release: Release, view: FeatureViewSpec) -> pa.Table:
    return release.storage.dataset(view.folder).to_table().sort_by(view.join_key)


def _live_since(release: Release) -> datetime:
    published = next(event for event in release.events() if event["event"] == "published")
    return datetime.fromisoformat(published["effective_at"])


def _online(store: Any, view: FeatureViewSpec, ids: pa.ChunkedArray) -> list[dict[str, Any]]:
    """What Feast serves of a view now, a row for each id."""
    features = [f"{view.name}:{name}" for name in view.columns]
    served = store.get_online_features(features, [{view.join_key: one} for one in ids.to_pylist()]).to_dict()
    names = [view.join_key, *view.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(served[name] for name in names), strict=True)]


def _as_of(store: Any, view: FeatureViewSpec, ids: pa.Array, moments: list[datetime]) -> list[dict[str, Any]]:
    """What Feast's history says of a view: the ids in order as of the first moment, then as of the second."""
    import pandas as pd

    pairs = [(one, moment) for moment in moments for one in ids.to_pylist()]
    frame = pd.DataFrame(pairs, columns=[view.join_key, EVENT_TIMESTAMP])
    names = [*view.columns, SPACE_ID]
    job = store.get_historical_features(frame, [f"{view.name}:{name}" for name in names])
    table = job.to_arrow().sort_by([(EVENT_TIMESTAMP, "ascending"), (view.join_key, "ascending")])
    return list(table.select([view.join_key, *names]).to_pylist())


def _metric(release: Release, stage: str, name: str) -> Any:
    report = release.stage_report(stage)
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
