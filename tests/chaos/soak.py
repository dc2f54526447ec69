"""A month of nights in a row, with all that a month brings, and what must be true checked after each.

    python tests/chaos/soak.py --nights 30 --members 1200 --titles 300

Titles launch and leave, members join and leave, tastes drift; a model begins anew once a month and is warm-started on
every other day; some nights get a spoilt lake or a spoilt model and must be refused; some are killed with kill -9, run
again and must end as if nothing had been. A line for each night, one with the verdict; exit code 1 where one fails.
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
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice, and starve where the machine is shared

import psutil

from pipeline.cli import main as samespace
from stores.releases.workspace import Workspace
from tests.chaos import invariants
from tests.chaos.consumers import hits, rankers_kept
from tests.chaos.season import Season, without_most_days

ROOT = Path(__file__).resolve().parents[2]
KEEP, HELD = 7, 4
SETTINGS = ["ray.num_cpus=1", "train.training.min_steps=300", "train.training.max_steps=300"]
SPOILT = ["train.training.learning_rate=3", "train.training.ppmi_init=false"]
KEPT, RANKED, GROWTH = 0.95, 0.98, 1.15
"""Least share of HR@10 in mixed releases, of a refitted ranker's AUC; most growth of memory and disk in a third."""


@dataclass
class Soak:
    """The nights of one workspace so far: a line about each, and all that was wrong."""

    season: Season
    place: Path
    schedule: dict[int, str]
    seed: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    said: StringIO = field(default_factory=StringIO)
    nightly_s: float = 10.0
    """Seconds of the last night, without its training."""

    @property
    def workspace(self) -> Workspace:
        """Where everything is published."""
        return Workspace.open(str(self.place / "ws"))

    @property
    def opened(self) -> str:
        """The release of the first night."""
        return str(self.lines[0]["live"])

    def resume(self) -> None:
        """Take up the nights that an earlier run has kept."""
        if (kept := self.place / "soak.json").exists():
            self.lines, self.wrong = json.loads(kept.read_text())

    def night(self, number: int) -> None:
        """Train, run the night that the schedule has, clean up, and look at everything."""
        event, began = self.schedule.get(number, ""), time.monotonic()
        lake, before = self.place / "lake", self.workspace.pointer()
        shutil.rmtree(lake, ignore_errors=True)
        self.season.write_lake(number, lake)
        self._train(number, event)
        if event == "bad lake":
            without_most_days(lake)
        words = ["nightly", "--as-of", self.season.moment(number).isoformat()]
        killed = event == "crash" and self._kill(number, words)
        bad, started = event.startswith("bad"), time.monotonic()
        self._expect(number, self._run(words), HELD if bad else 0)
        self.nightly_s = time.monotonic() - started
        if bad and self.workspace.pointer() != before:
            self.wrong.append(f"night {number}: it was refused, and something else is live than before")
        self._expect(number, self._run(["gc", "--keep", str(KEEP)]), 0)
        self.wrong += [f"night {number}: {line}" for line in invariants.faults(self.workspace, KEEP)]
        self._note(number, event if killed or event != "crash" else "over", time.monotonic() - began)

    def _train(self, number: int, event: str) -> None:
        """A model of yesterday's data, from the live one unless it is time to begin anew."""
        words = ["train", "--as-of", self.season.moment(number - 1).isoformat(), "--seed", str(self.seed + number)]
        if number > 1 and event not in ("from scratch", "bad model"):
            words += ["--from", self.workspace.current().manifest.model_id]
        self._expect(number, self._run(words, SPOILT if event == "bad model" else []), 0)

    def _run(self, words: list[str], settings: list[str] | None = None) -> int:
        """A command in this process, so that its memory adds up; its exit code. What it said is kept for a fault."""
        self.said = StringIO()
        with redirect_stdout(self.said), redirect_stderr(self.said):
            return samespace(self._command(words, settings or []))

    def _expect(self, number: int, code: int, expected: int) -> None:
        if code != expected:
            held = self.workspace.releases()[-1].manifest.reasons if code == HELD else []
            why = "; ".join(held) or self.said.getvalue()[-600:]
            self.wrong.append(f"night {number}: exit code {code}, expected {expected}: {why}")

    def _command(self, words: list[str], settings: list[str]) -> list[str]:
        options = [part for one in [*SETTINGS, *settings] for part in ("--set", one)]
        lake = ["--lake", str(self.place / "lake")]
        reading = [] if words[0] == "gc" else [*lake, *options]
        return [*words, "--workspace", str(self.place / "ws"), "--json", *reading]

    def _kill(self, number: int, words: list[str]) -> bool:
        """Run a night as a process of its own and kill all of it somewhere; whether it was still running."""
        command = [sys.executable, "-m", "pipeline.cli", *self._command(words, [])]
        nothing, environment = subprocess.DEVNULL, {**os.environ, "PYTHONPATH": str(ROOT)}
        night = subprocess.Popen(command, env=environment, start_new_session=True, stdout=nothing, stderr=nothing)
        try:
            night.wait(random.Random(f"{self.seed} {number}").uniform(0.2, 0.8) * self.nightly_s)
        except subprocess.TimeoutExpired:
            os.killpg(night.pid, signal.SIGKILL)
            night.wait()
            return True
        return False

    def _note(self, number: int, event: str, seconds: float) -> None:
        """Print what there is after a night, and how many next plays today's members find with earlier titles."""
        workspace = self.workspace
        live = workspace.current()
        line: dict[str, Any] = {"night": number, "event": event, "live": live.release_id, "model": live.plan.model_id}
        if self.lines and live.plan.as_of == self.season.moment(number):
            for name, release_id in (("first", self.opened), ("yesterday", str(live.plan.previous_release))):
                line[name] = hits(self.season, number, live, workspace.release(release_id))
        line |= {"members": live.members().count_rows(), "titles": live.titles().count_rows()}
        line |= {"releases": len(workspace.releases()), "models": len(workspace.models.folders())}
        line |= {f"{name}_kb": invariants.weight(workspace, name) // 1024 for name in ("releases", "models", "feast")}
        line |= {"memory_mb": psutil.Process().memory_info().rss // 2**20, "seconds": round(seconds, 1)}
        self.lines.append(line)
        (self.place / "soak.json").write_text(json.dumps([self.lines, self.wrong]))
        print(json.dumps(line | {"wrong": len(self.wrong)}), flush=True)

    def verdict(self) -> dict[str, Any]:
        """What the whole month must show; what it does not joins the faults."""
        mixed = {name: self._mixed(name) for name in ("first", "yesterday")}
        for name, found in mixed.items():
            if found["kept"] < KEPT:
                self.wrong.append(f"with titles of {name}, members keep {found['kept']:.3f} of HR@10, {KEPT} is needed")
        ranked = rankers_kept(self.workspace.release(self.opened), self.workspace.current())
        for name in ("pairs", "heads"):
            if ranked[name]["high"] < RANKED:  # surely less
                self.wrong.append(
                    f"the ranker of {name} keeps {ranked[name]['kept']:.3f} of a refitted one, {RANKED} is needed"
                )
        growth = {name: self._growth(name) for name in ("memory_mb", "releases_kb", "models_kb")}
        self.wrong += [f"{name} grew {by:.2f} fold in ten nights" for name, by in growth.items() if by > GROWTH]
        events = [line["event"] for line in self.lines if line["event"]]
        return {"nights": len(self.lines), "events": events, "mixed": mixed, "rankers": ranked, "growth": growth}

    def _mixed(self, name: str) -> dict[str, float]:
        """Questions of all nights, HR@10 with today's titles, and the share of it that earlier titles keep."""
        counts = [line[name] for line in self.lines if name in line]
        questions, own, mixed = (sum(column) for column in zip(*counts, strict=True))
        return {"questions": questions, "own": own / questions, "kept": mixed / max(own, 1)}

    def _growth(self, name: str) -> float:
        """The largest of the last third of the nights over that of the third before; 1 for a handful of nights."""
        third = len(self.lines) // 3
        if third < KEEP:
            return 1.0
        last, before = self.lines[-third:], self.lines[-2 * third : -third]
        return float(max(line[name] for line in last) / max(line[name] for line in before))


def planned(nights: int, bad: int, crashes: int, seed: int) -> dict[int, str]:
    """Which night is special: one month after the other begins with a model from scratch; never the first night."""
    middle = dict.fromkeys(range(16, nights + 1, 30), "from scratch")
    free = [night for night in range(2, nights + 1) if night not in middle]
    chosen = random.Random(seed).sample(free, bad + crashes)
    kinds = ["bad lake" if place % 2 == 0 else "bad model" for place in range(bad)] + ["crash"] * crashes
    return middle | dict(zip(chosen, kinds, strict=True))


def main() -> int:
    """Exit code 1 where anything was wrong; 3 where the time was over before the last night."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"nights": 30, "members": 1200, "titles": 300, "bad": 2, "crashes": 3, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", help="keep everything there; the same command goes on after the last whole night")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no night after so many")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return run(args, Path(args.folder or scratch).resolve())


def run(args: argparse.Namespace, folder: Path) -> int:
    """All nights that are left, and the verdict."""
    began = time.monotonic()
    season = Season.simulated(folder / "service", args.nights, args.members, args.titles, args.seed)
    soak = Soak(season, folder, planned(args.nights, args.bad, args.crashes, args.seed), args.seed)
    soak.resume()
    for number in range(len(soak.lines) + 1, args.nights + 1):
        if time.monotonic() - began > 60 * args.minutes:
            return 3
        soak.night(number)
    found = soak.verdict()
    print(json.dumps(found | {"wrong": soak.wrong}))
    return int(bool(soak.wrong))


if __name__ == "__main__":
    sys.exit(main())
