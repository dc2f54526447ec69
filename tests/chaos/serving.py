"""A service under load while releases are published, rolled back, promoted, erased from and collected.

    python tests/chaos/serving.py --cycles 30 --clients 6

`samespace serve` runs as a process of its own; the verbs that move the pointer run here, clients ask all the while.
Names and vectors of a release follow from its number, so that an answer shows by value where it came from. What must
never happen: an error, an answer put together from two releases, one of a release that never was live, a member who
answers after an erasure was taken over; memory, open files, threads or mapped files of removed releases that grow; a
service that in the end does not serve what is live.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.commands.erase import erase_member
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.promotion import PromoteOptions, roll_back, switch_to
from retrieval.config import RetrievalConfig
from retrieval.job import run as build_index
from stores.publishing.publish import publish, recover
from stores.publishing.retention import collect_garbage
from stores.releases.lease import lease
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace
from stores.schema import (
    EMBEDDING,
    ENCODED_AT,
    MEMBER_ID,
    NAME,
    RELEASE_ID,
    TITLE_ID,
    history_schema,
    member_vector_schema,
    title_vector_schema,
)

MEMBERS, TITLES, DIM, K = 200, 80, 8, 10
NIGHT = datetime(2026, 7, 1, 2, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
FOLLOWED_S = 120


def vectors(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Members (MEMBERS, DIM) and titles (TITLES, DIM) of a release, float32."""
    rng = np.random.default_rng(number)
    members, titles = (rng.standard_normal((rows, DIM), dtype=np.float32) for rows in (MEMBERS, TITLES))
    return members, titles


def expected(number: int) -> list[list[int]]:
    """The best titles of each member in a release, by float64 products."""
    members, titles = (side.astype(np.float64) for side in vectors(number))
    return np.argsort(-(members @ titles.T), axis=1, kind="stable")[:, :K].tolist()


def seal(workspace: Workspace, number: int, gone: frozenset[int] = frozenset()) -> str:
    """A release whose names say its number, without the members that were erased."""
    release_id = f"{NIGHT + timedelta(days=number):%Y%m%dT%H%M%SZ}-{number:04x}"
    facts = {"release_id": release_id, "plan_hash": f"{number:04x}", "lake": "", "model_id": "m", "space_id": "1"}
    moments = {"as_of": NIGHT, "created_at": NIGHT, "shards": 1, "config": {}}
    workspace.stage(Plan(**facts, **moments, reference_release=None, previous_release=None), 0)
    release = Release(workspace.uri, release_id)
    members, titles = vectors(number)
    there = np.array([member for member in range(MEMBERS) if member not in gone])
    for side, ids, matrix, key, schema in (
        (
            "members",
            there,
            members[there],
            MEMBER_ID,
            member_vector_schema(pa.int64(), DIM),
        ),
        (
            "titles",
            np.arange(TITLES),
            titles,
            TITLE_ID,
            title_vector_schema(pa.int64(), DIM),
        ),
    ):
        given: dict[str, Any] = {key: ids, NAME: [f"{number}:{row}" for row in range(len(ids))]}
        given |= {RELEASE_ID: [release_id] * len(ids), ENCODED_AT: [NIGHT] * len(ids)}
        given[EMBEDDING] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM)
        release.write_table(f"{side}/part-00000.parquet", _filled(schema, len(ids), given))
    schema = history_schema(pa.int64(), pa.int64())
    seen = {MEMBER_ID: there, TITLE_ID: [[]] * len(there)}
    release.write_table("histories/part-00000.parquet", _filled(schema, len(there), seen))
    build_index(RetrievalConfig(), release)
    release.seal([], [], {})
    return release_id


def _filled(schema: pa.Schema, rows: int, given: dict[str, Any]) -> pa.Table:
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


class Clients:
    """Threads that ask for candidates until stopped; `wrong` is what must not have happened."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.stopped = port, threading.Event()
        self.wrong: Counter[str] = Counter()
        self.asked, self.served = 0, set()
        self.going: set[int] = set()
        self.gone: set[int] = set()
        self._right: dict[int, list[list[int]]] = {}
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(count)]

    def _ask(self, seed: int) -> None:
        rng, line = np.random.default_rng(seed), HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stopped.is_set():
            member, kind = int(rng.integers(MEMBERS)), int(rng.integers(4))
            gone = member in self.gone
            path = f"/v1/titles/{member % TITLES}/similar" if kind == 0 else f"/v1/members/{member}/candidates"
            if kind == 1:
                path = f"/v1/explorer/titles/{member % TITLES}/compare"
            try:
                line.request("GET", path)
                answer = line.getresponse()
                self._check(answer.status, json.loads(answer.read()), member if kind > 1 else None, gone)
            except Exception as error:
                self._note(f"{type(error).__name__}: {error}")
                line.close()
            self.asked += 1
        line.close()

    def _check(self, status: int, body: dict[str, Any], member: int | None, gone: bool) -> None:
        if status == 404 and member in self.going:
            return
        if status != 200:
            self._note(f"status {status}: {body.get('what')}")
            return
        if member is not None and gone:
            self._note("a member answers after the erasure")
        number = int(body["release_id"][-4:], 16)
        self.served.add(number)
        titles = body.get("titles") or body["now"]
        if {title["name"].split(":")[0] for title in titles} != {str(number)}:
            self._note("titles of another release")
        if member is not None and [title["title_id"] for title in titles] != self._answers(number)[member]:
            self._note("not the best titles of this release")

    def _answers(self, number: int) -> list[list[int]]:
        if number not in self._right:
            self._right[number] = expected(number)
        return self._right[number]

    def _note(self, what: str) -> None:
        with self._lock:
            self.wrong[what] += 1


class Service:
    """`samespace serve` as a process, and what it takes of the machine."""

    def __init__(self, uri: str) -> None:
        command = [sys.executable, "-m", "pipeline.cli", "serve", "--workspace", uri, "--port", "0"]
        words = [*command, "--set", "serve.refresh_s=0.1", "--set", "serve.retry_max_s=0.5"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split("http://127.0.0.1:")[1].split()[0])

    def health(self) -> dict[str, Any]:
        """What the service says of itself; raises where that is not 200."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=60) as answer:
            return dict(json.load(answer))

    def follow(self, release_id: str, revision: int = 1) -> None:
        """Wait until a release is served, in a revision or a later one. Raises AssertionError after two minutes."""
        until = time.monotonic() + FOLLOWED_S
        while (health := self.health())["release_id"] != release_id or health["revision"] < revision:
            assert time.monotonic() < until, f"{release_id} is live, the service says {health}"
            time.sleep(0.02)

    def takes(self) -> dict[str, int]:
        """Memory in KiB, open files, threads, and mapped files that were removed."""
        place = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
        maps = (place / "maps").read_text()
        return {
            "rss": int(status["VmRSS"].split()[0]),
            "files": len(list((place / "fd").iterdir())),
            "threads": int(status["Threads"]),
            "removed": len({line.split()[-2] for line in maps.splitlines() if line.endswith("(deleted)")}),
        }

    def stop(self) -> str:
        """End the service; what it said on stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]


def chaos(uri: str, cycles: int, clients: int) -> dict[str, Any]:
    """Move the pointer under load; counts, and all that went wrong."""
    config, workspace = Config(workspace=uri), Workspace.open(uri)
    _publish(workspace, config, seal(workspace, 0))
    service = Service(uri)
    asking = Clients(service.port, clients)
    for thread in asking.threads:
        thread.start()
    taken: list[dict[str, int]] = []
    try:
        for number in range(1, cycles + 1):
            _cycle(workspace, config, number, asking, service)
            taken.append(service.takes())
    finally:
        asking.stopped.set()
        for thread in asking.threads:
            thread.join()
        said = service.stop()
    wrong = dict(asking.wrong.most_common(20)) | _grown(taken)
    wrong |= {line: 1 for line in said.splitlines() if "Traceback" in line or " ERROR " in line}
    return {"cycles": cycles, "asked": asking.asked, "served": len(asking.served), "takes": taken[-1], "wrong": wrong}


def _cycle(workspace: Workspace, config: Config, number: int, asking: Clients, service: Service) -> None:
    """Publish, go back, go forward, erase a member, collect; the service follows each."""
    before = workspace.current().release_id
    release_id = seal(workspace, number, frozenset(asking.gone))
    _publish(workspace, config, release_id)
    service.follow(release_id)
    assert roll_back(config, "chaos", ConsoleReporter(as_json=True)).release.release_id == before
    service.follow(before)
    switch_to(config, release_id, PromoteOptions(), ConsoleReporter(as_json=True))
    switch_to(config, before, PromoteOptions(), ConsoleReporter(as_json=True))
    switch_to(config, release_id, PromoteOptions(), ConsoleReporter(as_json=True))
    service.follow(release_id)
    asking.going.add(number % MEMBERS)
    erase_member(config, str(number % MEMBERS), "chaos")
    service.follow(release_id, workspace.current().manifest.revision)
    asking.gone.add(number % MEMBERS)
    with lease(workspace.storage, "gc"):
        collect_garbage(workspace, 2)


def _publish(workspace: Workspace, config: Config, release_id: str) -> None:
    with lease(workspace.storage, "chaos") as token:
        recover(workspace, config.publish, token)
        publish(workspace, Release(workspace.uri, release_id, token), config.publish)


def _grown(taken: list[dict[str, int]]) -> dict[str, int]:
    """What grows from the first third of the cycles to the last, beyond what an allocator and caches explain."""
    third = max(1, len(taken) // 3)
    first, last = taken[:third], taken[-third:]
    most = {name: max(one[name] for one in first) for name in first[0]}
    least = {name: min(one[name] for one in last) for name in first[0]}
    allowed = {"rss": 40_000, "files": 8, "threads": 8, "removed": 4}
    return {
        f"{name} grew": least[name] - most[name] for name, room in allowed.items() if least[name] > most[name] + room
    }


def main() -> int:
    """Exit code 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--clients", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = chaos(str(Path(folder) / "ws"), args.cycles, args.clients)
    print(json.dumps(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
