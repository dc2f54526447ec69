"""Commands that are stopped by signals: the code, the message, the lease, and how fast; each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stores.files.filesystem import Storage
from stores.releases.lease import LEASE_FILE, current_lease

ROOT = Path(__file__).resolve().parents[2]
SOON_S = 30.0
"""Far less than what the programs would take, and far more than stopping them does, on a busy machine too."""
PROGRAM = """
import os, signal, sys, time, types
from pipeline import cli, interruption
from stores.lake.scan import ScanConfig, connect
from stores.releases.lease import lease
from stores.files.filesystem import Storage

def ready():
    print("ready", file=sys.stderr, flush=True)

def run(args):
    with lease(Storage("ws"), "a night"):
{body}

sys.modules["pipeline.commands.nightly"] = types.SimpleNamespace(EXAMPLES=(), arguments=lambda parser: None, run=run)
sys.exit(cli.command())
"""
SLEEP = "ready(); time.sleep(300)"
QUERY = """
with connect(None, ScanConfig(threads=1)) as connection:
    ready()
    connection.execute("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3")
"""
RAY = """
import ray
from pipeline.ray_cluster import RayConfig, ray_cluster

def hang(**_):
    ready()
    time.sleep(300)

ray.init = hang
with ray_cluster(RayConfig()):
    pass
"""
SWALLOWED = """
try:
    ready(); time.sleep(300)
except KeyboardInterrupt:
    raise RuntimeError("a library made this of it")
"""
FORGOTTEN = """
try:
    ready(); time.sleep(300)
except KeyboardInterrupt:
    pass
interruption.raise_if_stopped()
"""
SLOW = """
try:
    ready(); time.sleep(300)
finally:
    ready(); time.sleep(300)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """start(body, *words): a command whose verb does that under a lease, waited for until it says that it is ready."""

    def run(body: str, *words: str, **options: Any) -> "subprocess.Popen[str]":
        program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body).strip(), " " * 8))
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", program, "nightly", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=pipe,
            stderr=pipe,
            text=True,
            **options,
        )
        heard(process)
        return process

    return run


def heard(process: "subprocess.Popen[str]") -> None:
    assert process.stderr
    assert "ready" in process.stderr.readline()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    told, aside = process.communicate(timeout=SOON_S)
    return process.returncode, told, aside


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (SLEEP, signal.SIGINT),
        (SLEEP, signal.SIGTERM),
        (SLEEP, signal.SIGHUP),
        (QUERY, signal.SIGTERM),
        (RAY, signal.SIGTERM),
        (SWALLOWED, signal.SIGTERM),
        (FORGOTTEN, signal.SIGINT),
    ],
    ids=["ctrl-c", "sigterm", "closed-terminal", "query", "ray-starts", "another-error", "swallowed"],
)
def test_a_signal_ends_a_command_with_its_code_and_the_lease_is_given_back(
    body: str, number: signal.Signals, start: Callable[..., Any], tmp_path: Path
) -> None:
    process = start(body)
    process.send_signal(number)
    code, told, aside = ended(process)
    cause = "Ctrl-C" if number is signal.SIGINT else number.name
    assert (code, told) == (128 + number, "")
    assert aside.strip() == f"samespace: stopped by {cause}; run the same command to resume"
    storage = Storage(str(tmp_path / "ws"))
    assert current_lease(storage) is None
    assert json.loads(storage.read(LEASE_FILE))["released"] is True


def test_with_json_the_one_line_says_so(start: Callable[..., Any]) -> None:
    process = start(SLEEP, "--json")
    process.send_signal(signal.SIGTERM)
    code, told, _ = ended(process)
    [line] = told.splitlines()
    assert json.loads(line)["error"]["exit_code"] == code == 143


def test_a_second_signal_ends_at_once_but_not_the_first_one_twice(start: Callable[..., Any]) -> None:
    process = start(SLOW)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # to the process, and to its group
    heard(process)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 143


def test_what_the_parent_ignores_stays_ignored(start: Callable[..., Any]) -> None:
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start("ready(); time.sleep(0.5); print('done', flush=True); time.sleep(300)", preexec_fn=nohup)
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143


def test_a_thread_that_hangs_does_not_keep_a_command_from_ending(start: Callable[..., Any]) -> None:
    process = start(
        """
        import threading
        from stores.runtime import run_with_timeout
        from stores.errors import EncoderError
        ready()
        try:
            run_with_timeout(0.1, time.sleep, 300)
        except TimeoutError:
            raise EncoderError("too slow")
        """
    )
    code, _, aside = ended(process)
    assert code == 1
    assert "too slow" in aside
