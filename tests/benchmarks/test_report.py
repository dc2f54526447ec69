"""The page of benchmarks: every target has its line; every benchmark is on the list and obeys the contract."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
QUICK = ("alignment", "candidates", "judging")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmarks_report", FOLDER / "report.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(stage: str, **figures: Any) -> dict[str, Any]:
    result = {"stage": stage, "size": "full", "ours": 1.0, "floor": None, "peers": {}, "unit": "s"}
    result |= {"ratio_floor": None, "ratios": {}, "ratio_best_peer": None, "quality": {}, **figures}
    return {"date": "2026-01-01", "machine": "2 cores", "command": "python x", "seconds": 1, "result": result}


def test_every_benchmark_that_obeys_the_contract_is_on_the_list(report: Any) -> None:
    assert all((FOLDER / f"{stage}.py").exists() for stage in report.STAGES)
    assert {"encode", "publish", "serve", "judging", "histories"} <= set(report.STAGES)
    assert "report" not in report.STAGES


def test_every_target_has_its_line_measured_or_not(report: Any) -> None:
    page = report.page({"encode": kept("encode", ratio_floor=0.5, ratios={"ray_data": 4.0})})
    lines = page[: page.index("## Every stage")].splitlines()
    assert sum(line.startswith("| ") for line in lines) == len(report.TARGETS) + 1
    assert any("0.5" in line and "short; tried" in line for line in lines)
    assert any("| 4 | met |" in line for line in lines)
    assert sum("not measured" in line for line in lines) >= len(report.TARGETS) - 3


def test_what_was_tried_is_in_the_log(report: Any) -> None:
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (.+)$", log, re.M))
    assert {heading for target in report.TARGETS for heading in target.tried} <= headings


@pytest.mark.slow
@pytest.mark.parametrize("stage", os.environ.get("SAMESPACE_BENCHMARKS", " ".join(QUICK)).split())
def test_the_small_form_runs_and_tells_what_the_contract_says(stage: str, report: Any) -> None:
    words = [sys.executable, str(FOLDER / f"{stage}.py"), "--size", "small", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.keys() >= report.KEYS
    assert (result["stage"], result["size"]) == (stage, "small")
