"""What README and pages print: blocks of code by language, and the commands in them, run as a reader would run them.

A reader types the blocks of a page in one shell, one after the other, in one folder. Here `samespace` in that shell is
a small client of this process, so that a hundred commands do not start a hundred interpreters and Rays; `make` and
`pip` are answered by what they would do. A comment before a block says why it is not run:
`<!-- not run: REASON -->`.
"""

import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"sh", "console", "python", "text", "toml", "json", "ini", "cron", "yaml"}
_FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.S | re.M
)
CLIENT = """#!{python} -S
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
line.sendall(json.dumps([os.getcwd(), {name!r}, sys.argv[1:]]).encode() + b"\\n")
code, out, err = json.loads(b"".join(iter(lambda: line.recv(65536), b"")))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@dataclass(frozen=True)
class Block:
    """A block of code on a page, where it begins, and why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text[: one.start()].count("\n") + 1, one["language"], one["text"], one["reason"] or "")
        for one in _FENCE.finditer(text)
    ]


class Shell:
    """One shell in one folder, whose `samespace`, `make` and `pip` are answered by this process."""

    def __init__(self, folder: Path, settings: list[str], sockets: Path) -> None:
        self.folder, self.settings = folder, settings
        self.bin = folder / ".bin"
        self.bin.mkdir()
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(sockets / "s"))
        self.listening.listen()
        for name in ("samespace", "make", "pip"):
            path = self.bin / name
            path.write_text(CLIENT.format(python=sys.executable, address=str(sockets / "s"), name=name))
            path.chmod(0o755)

    def close(self) -> None:
        """Listen no more."""
        self.listening.close()

    def run(self, text: str) -> None:
        """Run a block of commands. Raises AssertionError with all that was said where one of them fails."""
        path = f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
        program = ["bash", "-e", "-u", "-o", "pipefail", "-c", text]
        pipe = subprocess.PIPE
        shell = subprocess.Popen(
            program, cwd=self.folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(shell.communicate()[0]))
        reader.start()
        self.listening.settimeout(0.1)
        while reader.is_alive():
            try:
                self._answer(self.listening.accept()[0])
            except TimeoutError:
                continue
        assert shell.returncode == 0, f"{text}\n{said[0]}"

    def _answer(self, line: socket.socket) -> None:
        with line:
            line.settimeout(60)
            asked = b""
            while not asked.endswith(b"\n"):
                asked += line.recv(65_536)
            folder, name, words = json.loads(asked)
            line.sendall(json.dumps(getattr(self, f"_{name}")(folder, words)).encode())

    def _samespace(self, folder: str, words: list[str]) -> tuple[int, str, str]:
        """The command in this process, with the settings of a small training; `serve` is checked and runs already."""
        out, err = io.StringIO(), io.StringIO()
        if words[0] == "serve":
            return (0, "", "") if parsed(words) else (2, "", "serve has no such option")
        extra = [] if words[0] == "completions" else self.settings
        with chdir(folder), warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([words[0], *words[1:], *extra])
            except SystemExit as stopped:
                code = int(stopped.code or 0)
            except BaseException:
                code = 1
                traceback.print_exc()
        return code, out.getvalue(), err.getvalue()

    def _make(self, _: str, words: list[str]) -> tuple[int, str, str]:
        """What `make` would run; it installs an environment, and its targets are what CI runs."""
        done = subprocess.run(["/usr/bin/make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, "", done.stderr

    def _pip(self, _: str, words: list[str]) -> tuple[int, str, str]:
        """Whether the extra that would be installed is there."""
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extra = re.fullmatch(r"samespace\[(\w+)\]", words[-1])
        there = words[0] == "install" and extra is not None and f"\n{extra[1]} = [" in project
        return (0, "", "") if there else (1, "", f"no such extra: {words}")


def parsed(words: list[str]) -> bool:
    """Whether the command line takes some words, without running them."""
    import argparse

    from pipeline.cli import VERBS, add_arguments

    if not words or words[0] not in VERBS:
        return False
    parser = argparse.ArgumentParser(exit_on_error=False)
    with redirect_stderr(io.StringIO()):
        try:
            add_arguments(parser, words[0])
            parser.parse_args(words[1:])
        except (SystemExit, argparse.ArgumentError):
            return False
    return True


def commands(text: str) -> Iterator[list[str]]:
    """Words of the samespace commands in a text of another kind: a crontab, a unit, a sentence."""
    for found in re.finditer(r"(?:^|[/\s(=`])samespace ((?:[\w-]+)[^`\n#|&]*)", text):
        line = re.split(r"\s(?:>>?|2>>?|\|\||&&|;)\s", found[1])[0]
        try:
            yield shlex.split(line)
        except ValueError:
            continue


def filled(text: str, places: dict[str, str | Callable[[], str]]) -> str:
    """A block with values where it has placeholders; a value that is a function is asked when it is needed."""
    for place, value in places.items():
        if re.search(place, text):
            text = re.sub(place, (value if isinstance(value, str) else value()).replace("\\", r"\\"), text)
    return text
