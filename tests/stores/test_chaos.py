"""The short form of `tests/chaos/publishing.py`: readers in other processes, a killed publication, a new space."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("slots", ["1", "2"])
def test_readers_never_meet_an_error_or_two_spaces(slots: str) -> None:
    words = ["--publishes", "4", "--kills", "1", "--spaces", "1", "--readers", "1", "--slots", slots]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "chaos" / "publishing.py"), *words]
    done = subprocess.run(script, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["wrong"], found["spaces"]) == ([], 2)
    assert found["reads"] > 0
