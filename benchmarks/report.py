"""Run the benchmarks in full and write what came out as `docs/benchmarks.md`.

    python benchmarks/report.py                          # every one, one after the other
    python benchmarks/report.py --only encode publish    # these; the others keep their last result
    python benchmarks/report.py --only                   # none: only write the page again

Each result is kept with its date and machine in `benchmarks/results/<stage>.json`. One that fails keeps the result
before it, is named at the end, and makes the exit code 1.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"


def obeying() -> list[str]:
    """The scripts beside this one that take `--size` and `--json`."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    del found["report"]
    return [name for name, script in found.items() if '("--json"' in script and '("--size"' in script]


STAGES = tuple(dict.fromkeys([*(target.stage for target in TARGETS), *obeying()]))
"""Those with a target in the order of a night, then the others."""

KEYS = {"stage", "size", "ours", "floor", "peers", "unit", "ratio_floor", "ratios", "ratio_best_peer", "quality"}


def machine() -> str:
    """What the figures depend on: cores, processor family, memory. No names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    family = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores, {family}, {memory:.0f} GB"


def run(stage: str, size: str, results: Path = RESULTS) -> str:
    """Run one benchmark and keep its result; what is wrong, "" if nothing is."""
    command = ["python", f"benchmarks/{stage}.py", "--size", size, "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return f"{stage}: exit code {done.returncode}"
    try:
        result = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return f"{stage}: the last line is not JSON"
    if missing := KEYS - result.keys():
        return f"{stage}: the result has no {', '.join(sorted(missing))}"
    kept = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine(), "command": " ".join(command)}
    kept |= {"seconds": round(time.monotonic() - began), "result": result}
    results.mkdir(exist_ok=True)
    (results / f"{stage}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return ""


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The whole page from the kept results by stage."""
    head = ["| stage | target | reached | | command |", "|---|---|---|---|---|"]
    machines = sorted({one["machine"] for one in kept.values()})
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Made by `make bench` (`benchmarks/report.py`), never by hand. Every script runs us, the floor (what the",
            "hardware needs) and the peers (what a user would run instead) in turn on the same data; a ratio above 1",
            "says that ours is faster. Absolute figures are of one machine: "
            + ("; ".join(machines) or "not measured yet")
            + ".",
            "",
            "## Targets",
            "",
            *head,
            *(_line(target, kept.get(target.stage)) for target in TARGETS),
            "",
            "## Every stage",
            *(line for stage in STAGES if stage in kept for line in _stage(stage, kept[stage])),
            "",
        ]
    )


def _line(target: Target, kept: dict[str, Any] | None) -> str:
    """One target: what is wanted, what was seen, and where it is short, what was tried."""
    sign, command = "≤" if target.at_most else "≥", f"`python benchmarks/{target.stage}.py --size full`"
    figure = target.reached(kept["result"]) if kept else None
    if kept is None or figure is None:
        return f"| {target.stage} | {sign} {target.bar:g} {target.promise} | not measured | | {command} |"
    tried = ", ".join(f"[{heading}](log.md#{anchor(heading)})" for heading in target.tried)
    state = "met" if target.met(figure) else f"short; tried: {tried}" if tried else "short"
    size = "" if kept["result"]["size"] == "full" else f" (size {kept['result']['size']})"
    return f"| {target.stage} | {sign} {target.bar:g} {target.promise} | {figure:.3g}{size} | {state} | {command} |"


def anchor(heading: str) -> str:
    """The link target that the documentation's toc makes of a heading."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "-".join(kept.split())


def _stage(stage: str, kept: dict[str, Any]) -> list[str]:
    """Speeds, ratios and quality of one stage."""
    result = kept["result"]
    speeds = {"ours": result["ours"], "floor": result["floor"], **result["peers"]}
    ratios = {"floor": result["ratio_floor"], **result["ratios"]}
    rows = [f"| {name} | {_short(value)} | {_short(ratios.get(name))} |" for name, value in speeds.items()]
    quality = ", ".join(f"{name} {_short(value)}" for name, value in _flat(result["quality"]).items())
    return [
        "",
        f"### {stage}",
        "",
        f"`{kept['command']}`, {kept['date']}, {kept['seconds']:,} s, {kept['machine']}",
        "",
        f"| | {result['unit']} | ours against it |",
        "|---|---|---|",
        *rows,
        *(["", f"Quality: {quality}."] if quality else []),
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures by dotted names; lists are left to the JSON."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            found[prefix + name] = value
    return found


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main() -> int:
    """Run what is asked for and write the page; exit code 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--size", choices=["small", "full"], default="full")
    args = parser.parse_args()
    wrong = []
    for stage in args.only:
        print(f"{datetime.now(UTC):%H:%M:%S}  {stage}", flush=True)
        wrong += [line] if (line := run(stage, args.size)) else []
    kept = {stage: json.loads(path.read_text()) for stage in STAGES if (path := RESULTS / f"{stage}.json").exists()}
    PAGE.write_text(page(kept), encoding="utf-8")
    print("\n".join([f"wrote {PAGE.relative_to(ROOT)}", *wrong]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
