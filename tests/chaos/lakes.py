"""Strange lakes, one after the other: what a night makes of each is right or refused by name.

    python tests/chaos/lakes.py --lakes 500 --seed 0          # reads each as a night's first stage does
    python tests/chaos/lakes.py --lakes 500 --nights 5        # five of them also as whole nights
    python tests/chaos/lakes.py --only 417                    # one of them again

Every lake is written by `strange_lakes` in any physical form, with one bad cell. The stage must end without a crash,
each row must be accepted with its right values or listed as refused, and the counts must add up.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from embeddings.histories.config import ScanConfig
from embeddings.histories.job import CATALOGUE, HistoriesConfig, run
from stores.errors import SamespaceError
from stores.releases.release import Plan, Release
from stores.schema import dead_letter_schema
from tests.chaos.strange_lakes import Reading, StrangeLake, problems

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
ALL = HistoriesConfig(max_bad_fraction=1.0, merge_gap_minutes=0, scan=ScanConfig(threads=1))
BRIEF = ("train.training.min_steps=20", "train.training.max_steps=20", "ray.num_cpus=1", "encode.workers=1",
         "gate.quality.min_ratio_to_popularity=0")  # fmt: skip
MAY_END = (0, 3, 4)
"""A night goes live, is refused, or is held by a gate; never a crash."""


def read(lake: StrangeLake, folder: Path) -> Reading:
    """What the histories stage makes of a lake."""
    release = Release(str(folder / "ws"), "20240601T000000Z-0000")
    plan = Plan(
        release_id=release.release_id, plan_hash="0", lake=str(folder / "lake"), as_of=AS_OF, created_at=AS_OF,
        model_id="m", space_id="1", reference_release=None, previous_release=None, shards=1, config={},
    )  # fmt: skip
    release.storage.write("plan.json", plan.model_dump_json().encode())
    report = run(ALL, release)
    letters = list(release.batches("dead_letter")) or [dead_letter_schema().empty_table()]
    return Reading(release.table("histories"), release.read_table(CATALOGUE), pa.concat_tables(letters), report.metrics)


def examine(seed: int) -> list[str]:
    """What is wrong with the reading of a lake; a crash is."""
    lake = StrangeLake(seed)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        lake.write(Path(folder) / "lake")
        try:
            found = problems(lake, read(lake, Path(folder)))
        except SamespaceError as error:
            found = [] if error.exit_code == 3 else [f"exit {error.exit_code}: {error}"]
        except Exception:
            found = [f"a crash: {traceback.format_exc()}"]
    return [f"{lake}\n    {one}" for one in found]


def night(seed: int) -> list[str]:
    """What is wrong with `plan` and a whole `nightly` on a lake, given as commands with the usual budget."""
    from pipeline.cli import main

    lake = StrangeLake(seed)
    with tempfile.TemporaryDirectory() as folder:
        lake.write(Path(folder) / "lake")
        words = ["--lake", f"{folder}/lake", "--workspace", f"{folder}/ws", "--json"]
        words += [part for setting in BRIEF for part in ("--set", setting)]
        codes = {}
        for verb in ("plan", "nightly"):
            told, aside = io.StringIO(), io.StringIO()
            with redirect_stdout(told), redirect_stderr(aside):
                codes[verb] = main([verb, *words])
            if codes[verb] not in MAY_END:
                return [f"{lake}\n    {verb} ended with exit {codes[verb]}: {aside.getvalue()[-2000:]}"]
        if (codes["plan"] == 3) != (codes["nightly"] == 3):
            return [f"{lake}\n    plan ended with exit {codes['plan']}, nightly with {codes['nightly']}"]
    return []


def main() -> int:
    """Examine the lakes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first lake")
    parser.add_argument("--nights", type=int, default=0, help="so many of the lakes also through the command line")
    parser.add_argument("--only", type=int, help="the number of one lake")
    args = parser.parse_args()
    seeds = [args.only] if args.only is not None else list(range(args.seed, args.seed + args.lakes))
    every = max(1, len(seeds) // args.nights) if args.nights else 0
    began, wrong = monotonic(), 0
    for number, seed in enumerate(seeds):
        found = examine(seed) + (night(seed) if every and number % every == 0 else [])
        wrong += bool(found)
        for one in found:
            print(one, flush=True)
    taken: dict[str, Any] = {"lakes": len(seeds), "wrong": wrong, "seconds": round(monotonic() - began, 1)}
    print(json.dumps(taken))
    return int(wrong > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
