"""Every writing verb is killed with kill -9 at random moments and given again; then two verbs are given at once.

    python tests/chaos/verbs.py --kills 20 [--verbs rollback gc erase] [--seed 1] [--minutes 60]
    python tests/chaos/verbs.py --pairs

A trial copies a prepared workspace, starts the verb, kills all its processes after a random part of the time that an
undisturbed run takes, gives the same command again to its end, and compares what it finds with what one undisturbed run
left: pointer, releases with their rows, events and receipts, models, online rows, history, and which files there are.
Times, random names and the ids of new releases differ. Of two verbs at once each is done, or refused as busy and done
when given again; whatever ends first, no file is damaged and Feast serves the live release.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stores.feast.feature_views import MEMBERS, TITLES
from stores.feast.owner_marks import OWNERS_TABLE as OWNERS
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.publishing import publish
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from tests.chaos.nights import CONTEXT, ROOT
from tests.stores.conftest import Nights

CONTEXT.set_forkserver_preload(
    [
        "pipeline.cli",
        "pipeline.nightly",
        "pipeline.promotion",
        "pipeline.commands.erase",
        "pipeline.backfill",
        "feast",
        "torch",
    ]
    + [f"pipeline.commands.{verb}" for verb in ("nightly", "train", "report", "gc", "erase", "rollback", "promote")]
)
SETTINGS = ["ray.num_cpus=2", "encode.workers=1", "publish.registry_ttl_s=1", "gate.quality.min_ratio_to_popularity=0"]
STEPS = [f"train.training.{name}_steps=40" for name in ("min", "max")]
TIMES = ("release_id", "encoded_at", "event_timestamp", "created_timestamp")
STAMP = re.compile(r"\d{8}T\d{6,12}Z?(-[0-9a-f]{4})?|[0-9a-f]{16,64}")
PASSING = ("lease.json", ".lock", "intent.json", "-wal", "-shm", ".tmp-", "log.txt", "report.html", "registry.db")
LIMIT_S = 900


@dataclass(frozen=True)
class Verb:
    """A verb's command line on one of the prepared workspaces, `small` (no Ray, no model) or `night`."""

    words: tuple[str, ...]
    prepared: str = "small"


VERBS = {
    "rollback": Verb(("rollback", "--why", "odd")),
    "promote": Verb(("promote", "r0")),
    "gc": Verb(("gc", "--keep", "2")),
    "erase": Verb(("erase", "4", "--why", "a request")),
    "report": Verb(("report", "r1")),
    "train": Verb(("train", "--lake", "../lake", "--as-of", "2026-01-01", "--seed", "1"), "night"),
    "backfill": Verb(("backfill", "--lake", "../lake", "--from", "2025-12-26", "--to", "2025-12-27"), "night"),
    "nightly": Verb(("nightly", "--lake", "../lake", "--as-of", "2026-01-01"), "night"),
}


# --- processes


@contextmanager
def started(place: Path, words: list[str]) -> Iterator[Any]:
    """A command in a process group of its own that does not outlive the block; it begins with everything imported."""
    process = CONTEXT.Process(target=_command, args=(place, words))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _command(place: Path, words: list[str]) -> None:
    from pipeline.cli import main

    os.setsid()
    os.chdir(place)
    os.environ["PYTHONPATH"] = str(ROOT)  # for Ray's workers
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(words))


def line(place: Path, words: tuple[str, ...]) -> list[str]:
    """A command line on the workspace `ws` of a folder; `r0`, `r1` … are its releases, oldest first."""
    names = Workspace.open(str(place / "ws")).release_names()
    known = {f"r{number}": name for number, name in enumerate(names)}
    settings = [part for setting in [*SETTINGS, *STEPS] for part in ("--set", setting)]
    return [*(known.get(word, word) for word in words), "--workspace", "ws", "--json", *settings]


def completed(place: Path, words: list[str]) -> float:
    """Run a command to its end; the seconds it took. Raises RuntimeError with its last words where it fails."""
    began = time.monotonic()
    with started(place, words) as process:
        process.join(LIMIT_S)
        if process.exitcode != 0:
            raise RuntimeError(f"{words[0]}: exit {process.exitcode}\n{_log(place)[-3000:]}")
    return time.monotonic() - began


def killed(place: Path, words: list[str], after: float) -> bool:
    """Run a command for some seconds and kill all of it; whether that was before its answer was printed."""
    with started(place, words) as process:
        process.join(after)
    return process.exitcode != 0 and '{"' not in _log(place)


def _log(place: Path) -> str:
    return (place / "log.txt").read_text() if (place / "log.txt").exists() else ""


# --- prepared workspaces


def small(place: Path) -> None:
    """Five releases of which the last three are published, a report for each, models, a half-built night."""
    nights = Nights(Workspace.open(str(place / "ws")), str(place / "ws" / "feast"))
    config = publish.PublishConfig(registry_ttl_s=1)
    releases = []
    for number in range(5):
        members = {**dict.fromkeys(range(number % 2, 30), 1), 4: number, 7: number}
        releases.append(nights.seal(members, {0: number, 1: 1}, carried=releases[-1] if number == 3 else None))
    for release in releases[2:]:
        publish.publish(nights.workspace, release, config)
    for release in releases:
        release.storage.write("report.html", b"before")
    for model_id in ("m", "unused"):
        nights.workspace.models.write(f"{model_id}/config.json", b"{}")
    nights.workspace.set_next_model("unused")


def night(place: Path) -> None:
    """A lake, and a workspace with a model and one published night."""
    simulate(str(place.parent / "lake"), SimulationConfig(members=160, titles=80, days=20, seed=3))
    completed(place, line(place, ("nightly", "--lake", "../lake", "--as-of", "2025-12-30")))


PREPARED: dict[str, Callable[[Path], None]] = {"small": small, "night": night}


# --- what is compared


def state(place: Path) -> dict[str, Any]:
    """What a workspace holds, without times, random names and the ids of its releases."""
    workspace = Workspace.open(str(place / "ws"))
    order = {name: f"r{number:03}".ljust(len(name), "_") for number, name in enumerate(workspace.release_names())}
    releases = workspace.releases()
    found: dict[str, Any] = {
        "pointer": (workspace.pointer() or {}).get("release_id"),
        "next model": workspace.next_model(),
        "files": sorted({_path(path) for path in workspace.storage.files() if not any(p in path for p in PASSING)}),
        "faults": [fault for release in releases for fault in release.verify()],
        "decisions": [_decisions(release) for release in releases],
        "events": [[_fact(event, workspace) for event in release.events()] for release in releases],
        "reports": [release.storage.exists("report.html") for release in releases],
        "rows": {f"{r.release_id} {path}": _rows(r.storage.read(path)) for r in releases for path in _tables(r)},
        "online": _online(workspace),
        "history": {
            _path(path): _rows(workspace.storage.read(path)) for path in workspace.storage.files("feast/history")
        },
    }
    text = json.dumps(found, sort_keys=True, default=str)
    for name, place_ in order.items():
        text = text.replace(name, place_).replace(name.encode().hex(), place_.encode().hex())
    return dict(json.loads(text))


def _path(path: str) -> str:
    return STAMP.sub("#", path)


def _tables(release: Release) -> list[str]:
    return [entry.path for entry in release.manifest.files if entry.path.endswith(".parquet")]


def _decisions(release: Release) -> list[Any]:
    manifest = release.manifest
    outcome = [report.metrics.get("outcome") for report in manifest.stages if report.name == "align"]
    files = [(entry.path, entry.rows) for entry in manifest.files]
    return [manifest.status, manifest.revision, manifest.space_id, manifest.model_id, manifest.reasons, outcome, files]


def _fact(event: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    """What an event says, but for times and names that are random or hold a time; a salted hash is named."""
    passing = ("at", "effective_at", "move", "erasure", "subject")
    fact = {name: value for name, value in event.items() if name not in passing}
    if subject := event.get("subject"):
        listed = read_suppression_list(workspace.storage)
        fact["subject"] = [one for one in range(1000) if listed and listed.hash_id(one) == subject]
    return fact


def _rows(data: bytes) -> str:
    table = pq.read_table(pa.BufferReader(data))
    kept = table.drop_columns([name for name in TIMES if name in table.column_names]).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kept.schema.remove_metadata()) as writer:
        writer.write_table(kept.replace_schema_metadata(None))
    return hashlib.sha256(sink.getvalue()).hexdigest()[:24]


def _online(workspace: Workspace) -> dict[str, list[Any]]:
    """The rows of SQLite by table, without times."""
    place = workspace.storage.local("feast/online.db")
    if not place.exists():
        return {}
    with closing(sqlite3.connect(place)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        wanted = "SELECT hex(entity_key), feature_name, hex(value) FROM '{}' WHERE feature_name != 'encoded_at'"
        wanted += " ORDER BY 1, 2"
        views = [name for name in tables if name != OWNERS]
        return {name: [(k, f, v.lower()) for k, f, v in database.execute(wanted.format(name))] for name in views}


def served(place: Path) -> list[str]:
    """What is wrong with what Feast serves of the live release; empty where that is what the release holds."""
    import numpy as np
    from feast import FeatureStore

    workspace = Workspace.open(str(place / "ws"))
    release, wrong = workspace.current(), []
    store = FeatureStore(repo_path=str(place / "ws" / "feast"))
    for view in (MEMBERS, TITLES):
        table = release.table(view.folder, [view.join_key, "embedding"])
        ids = table[view.join_key].to_pylist()
        name = view.view(release.space_id)
        answer = store.get_online_features([f"{name}:embedding"], [{view.join_key: one} for one in ids]).to_dict()
        got = np.asarray(answer["embedding"], np.float32).ravel()
        held = table["embedding"].combine_chunks().flatten().to_numpy()
        wrong += [] if np.array_equal(got, held) else [f"{name} is not what {release.release_id} holds"]
    return wrong


# --- trials


class Trials:
    """Prepared workspaces in a folder, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def copy(self, prepared: str) -> Iterator[Path]:
        """A folder with a copy of a prepared workspace, for the time of the block."""
        source = self.folder / prepared
        if not source.exists():
            source.mkdir()
            PREPARED[prepared](source)
        place = self.folder / "trial"
        shutil.copytree(source / "ws", place / "ws")
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def undisturbed(self, verb: Verb) -> tuple[dict[str, Any], float]:
        """What one run leaves, and the seconds it takes."""
        with self.copy(verb.prepared) as place:
            taken = completed(place, line(place, verb.words))
            return state(place), taken

    def killed(self, verb: Verb, after: float) -> dict[str, Any] | None:
        """What a run that is killed after some seconds and given again leaves; None where its answer was out before."""
        with self.copy(verb.prepared) as place:
            words = line(place, verb.words)
            if not killed(place, words, after):
                return None
            completed(place, words)
            return state(place)


def repeat_killed(trials: Trials, names: list[str], kills: int, seed: int, end: float) -> dict[str, Any]:
    """Kill each verb so often; counts by verb, and every difference."""
    found: dict[str, Any] = {}
    for name in names:
        verb, random_ = VERBS[name], random.Random(f"{seed} {name}")
        trials.undisturbed(verb)  # the first run imports; the second is measured
        expected, taken = trials.undisturbed(verb)
        one: dict[str, Any] = {"trials": 0, "seconds": round(taken, 2), "wrong": []}
        while one["trials"] < kills and time.monotonic() < end:
            after = taken * (one["trials"] + random_.random()) / kills  # spread over the run
            while (got := trials.killed(verb, after)) is None:  # it came too late, on a machine that is faster now
                after *= 0.8
            one["trials"] += 1
            differs = [key for key in expected if expected[key] != got[key]]
            one["wrong"] += (
                [{"killed_after": round(after, 3), "differs": _shown(expected, got, differs)}] if differs else []
            )
            print(
                f"{name} {one['trials']}/{kills}  {after:6.2f} s  {differs or 'equal'}",
                flush=True,
            )
        found[name] = one
    return found


def _shown(expected: dict[str, Any], got: dict[str, Any], keys: list[str]) -> dict[str, str]:
    return {key: f"{json.dumps(expected[key])[:600]} != {json.dumps(got[key])[:600]}" for key in keys}


BESIDE = {
    "releases": ("releases",),
    "show": ("releases", "show"),
    "doctor": ("doctor", "--verify"),
    "diff": ("diff", "r3", "r4"),
    "promote current": ("promote", "current"),
}
"""Commands that are given beside the writing verbs, readers most of them."""
LOOKING = {"candidates": ("candidates", "1"), "similar": ("similar", "1")}
NIGHT_PAIRS = [
    *(("train", other) for other in ("train", "nightly", "gc", "erase")),
    *(("nightly", other) for other in ("nightly", "backfill", "erase", "gc", "promote current", *LOOKING)),
    *(("backfill", other) for other in ("erase", "report", *LOOKING)),
]
"""Pairs of the verbs that need a lake, on a workspace with a real night."""
MAY_FAIL = {("gc", 2), ("promote", 2), ("rollback", 2), ("report", 2), ("diff", 2)}
"""A release that one verb names may be dropped by the other: then that is said, as wrong usage."""


def together(trials: Trials, prepared: str, pair: tuple[str, str], delay: float) -> list[str]:
    """Give two commands at once, then again those that found the workspace busy; what is wrong afterwards."""
    lines = {name: verb.words for name, verb in VERBS.items()} | BESIDE | LOOKING
    wrong = []
    with trials.copy(prepared) as place:
        words = [line(place, lines[name]) for name in pair]
        with started(place, words[0]) as first:
            time.sleep(delay)
            with started(place, words[1]) as second:
                first.join(LIMIT_S)
                second.join(LIMIT_S)
        for name, one, process in zip(pair, words, (first, second), strict=True):
            if process.exitcode == 5:
                with started(place, one) as again:
                    again.join(LIMIT_S)
                process = again
            if process.exitcode != 0 and (name, process.exitcode) not in MAY_FAIL:
                wrong.append(f"{name}: exit {process.exitcode}")
        log = _log(place)
        wrong += ["a trace"] if "Traceback" in log else []
        workspace = Workspace.open(str(place / "ws"))
        wrong += [fault for release in workspace.releases() for fault in release.verify()]
        wrong += served(place) + [f"half-deleted: {one}" for one in workspace.half_deleted()]
        return [f"{fault}\n{log[-2000:]}" for fault in wrong]


def all_pairs(trials: Trials, seed: int, end: float) -> dict[str, Any]:
    """Every pair of the verbs that need no Ray, each of them beside every reader, and `NIGHT_PAIRS`."""
    random_ = random.Random(seed)
    writing = [name for name, verb in VERBS.items() if verb.prepared == "small"]
    pairs = [("small", pair) for pair in (*itertools.product(writing, writing), *itertools.product(writing, BESIDE))]
    found: dict[str, Any] = {"pairs": 0, "wrong": []}
    for prepared, pair in [*pairs, *(("night", pair) for pair in NIGHT_PAIRS)]:
        if time.monotonic() > end:
            break
        faults = together(trials, prepared, pair, random_.uniform(0, 0.6 if prepared == "small" else 10))
        found["pairs"] += 1
        found["wrong"] += [{"pair": pair, "faults": faults}] if faults else []
        print(f"{' + '.join(pair)}  {faults or 'well'}", flush=True)
    return found


def main() -> int:
    """Exit code 1 where anything ended otherwise than one undisturbed run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", nargs="+", choices=list(VERBS), default=list(VERBS))
    parser.add_argument("--kills", type=int, default=20, help="of each verb")
    parser.add_argument("--pairs", action="store_true", help="two verbs at once instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial later than this")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder))
        if args.pairs:
            found = all_pairs(trials, args.seed, end)
            wrong = found["wrong"]
        else:
            found = repeat_killed(trials, args.verbs, args.kills, args.seed, end)
            wrong = [fault for one in found.values() for fault in one["wrong"]]
    print(json.dumps(found))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
