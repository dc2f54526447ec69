"""Stores that fail in the middle of a publication: Redis killed, full, read-only, locked or silent, S3 sick.

    python tests/chaos/outages.py --redis 60 --s3 60 [--seed 1]

Each trial publishes a release, lets the store fail at a random moment of the next publication, and publishes again once
it is well. What must hold: a typed error that names the store and a cure, within the time that the limits allow; the
pointer names the earlier release; the same command again completes it, and plain Feast serves what the release holds.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stores.errors import StoreError
from stores.feast import redis_writer
from stores.feast.repository import PublishConfig
from stores.files import object_store
from stores.publishing import publish
from stores.releases.workspace import Workspace
from tests.stores.conftest import Look, Nights
from tests.stores.redis_servers import SECRET, Server
from tests.stores.sick_s3 import KINDS, Illness, sick_proxy

MEMBERS = 40
EVERYONE = list(range(MEMBERS + 5))
ANSWER_S, S3_ANSWER_S = 1.0, 5.0
BOUND_S = 120.0
"""Far above what the limits of a trial add up to; a wait without an end would exceed it."""


@dataclass
class Trouble:
    """Something that befalls a Redis server, and how it ends."""

    begin: Callable[[Server], Any]
    end: Callable[[Server], Any]


def _lock(server: Server, password: str) -> None:
    server.ask("CONFIG", "SET", "requirepass", password)
    server.password = password
    with suppress(Exception):
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


TROUBLES = {
    "killed": Trouble(Server.stop, Server.start),
    "full": Trouble(
        lambda server: server.ask("CONFIG", "SET", "maxmemory", 1),
        lambda server: server.ask("CONFIG", "SET", "maxmemory", 0),
    ),
    "read-only": Trouble(
        lambda server: server.ask("REPLICAOF", "127.0.0.1", 1), lambda server: server.ask("REPLICAOF", "NO", "ONE")
    ),
    "locked": Trouble(lambda server: _lock(server, "another"), lambda server: _lock(server, SECRET)),
    "silent": Trouble(
        lambda server: os.kill(server.process.pid, signal.SIGSTOP),
        lambda server: os.kill(server.process.pid, signal.SIGCONT),
    ),
}


@contextmanager
def failing(server: Server, trouble: Trouble, batch: int) -> Iterator[list[int]]:
    """Let the trouble begin before a batch of rows is written; yields the batches that there were."""
    real, batches = redis_writer.RedisWriter.write, list[int]()

    def write(self: Any, *arguments: Any) -> None:
        if len(batches) == batch:
            trouble.begin(server)
        batches.append(batch)
        real(self, *arguments)

    redis_writer.RedisWriter.write = write  # type: ignore[method-assign]
    try:
        yield batches
    finally:
        redis_writer.RedisWriter.write = real  # type: ignore[method-assign]


def redis_trial(place: Path, server: Server, name: str, batch: int) -> None:
    """One publication into a Redis to which something happens."""
    server.ask("FLUSHALL")
    config = server.config(f"password={SECRET},socket_timeout={ANSWER_S},socket_connect_timeout={ANSWER_S}")
    nights = _nights(place / f"{name}-{batch}")
    first, second = (nights.seal(dict.fromkeys(range(MEMBERS), seed), {0: seed}) for seed in (1, 2))
    publish.publish(nights.workspace, first, config)
    trouble = TROUBLES[name]
    with failing(server, trouble, batch) as batches:
        error = _refused(lambda: publish.publish(nights.workspace, second, config))
        trouble.end(server)
    assert len(batches) > batch, "the trouble did not begin"
    assert "type redis" in error.where, error
    assert SECRET not in str(error), error
    _completes(nights, first, second, config)


def s3_trial(nights: Nights, config: PublishConfig, illness: Illness, kind: str, first: int) -> str:
    """One publication into a workspace on an object store that falls ill; says how it went."""
    before, after = (nights.seal(dict.fromkeys(range(MEMBERS), first + seed), {0: seed}) for seed in (1, 2))
    publish.publish(nights.workspace, before, config)
    illness.begin(kind, first)
    began, outcome = time.monotonic(), "not met"
    try:
        publish.publish(nights.workspace, after, config)
    except StoreError as error:
        outcome = error.what if error.where and error.fix else f"without place or cure: {error}"
    finally:
        illness.heal()
    assert not outcome.startswith("without"), outcome
    assert time.monotonic() - began < BOUND_S, f"{kind} at request {first}: waited too long"
    if outcome != "not met" and nights.workspace.pointer()["release_id"] == before.release_id:
        publish.publish(nights.workspace, after, config)
    else:
        publish.recover(nights.workspace, config)
    _serves(nights, after)
    return outcome


def _refused(command: Callable[[], Any]) -> StoreError:
    began, found = time.monotonic(), None
    try:
        command()
    except StoreError as error:
        found = error
    assert found is not None, "a store that failed was not noticed"
    assert found.fix, found
    assert time.monotonic() - began < BOUND_S, "waited too long"
    return found


def _completes(nights: Nights, first: Any, second: Any, config: PublishConfig) -> None:
    assert nights.workspace.pointer()["release_id"] == first.release_id
    publish.publish(nights.workspace, second, config)
    _serves(nights, second)


def _serves(nights: Nights, release: Any) -> None:
    look = Look()
    assert nights.workspace.pointer()["release_id"] == release.release_id
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(release, "members"))


def _nights(place: Path) -> Nights:
    return Nights(Workspace.open(str(place / "ws")), str(place / "ws" / "feast"))


def redis_outages(place: Path, trials: list[tuple[str, int]]) -> None:
    """Trials by (trouble, number of the batch), on one server."""
    server, pause = Server(place), redis_writer.RETRY_PAUSE_S
    redis_writer.RETRY_PAUSE_S = 0.1
    try:
        for name, batch in trials:
            redis_trial(place, server, name, batch)
            print(f"redis {name} at batch {batch}: named, completed", flush=True)
    finally:
        redis_writer.RETRY_PAUSE_S = pause
        server.stop()


@contextmanager
def sick_store(place: Path) -> Iterator[tuple[Nights, PublishConfig, Illness]]:
    """A workspace on an object store that can fall ill, with short limits."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with ExitStack() as undo:
        undo.callback(server.stop)
        url, illness = undo.enter_context(sick_proxy(f"http://{host}:{port}"))
        settings = {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "2"}
        settings |= {"AWS_ACCESS_KEY_ID": f"test{port}", "AWS_SECRET_ACCESS_KEY": "test"}
        undo.callback(_restore, {name: os.environ.get(name) for name in settings})
        os.environ.update(settings)
        limits = object_store.CONNECT_S, object_store.ANSWER_S, object_store.ATTEMPTS
        undo.callback(_limit, *limits)
        _limit(S3_ANSWER_S, S3_ANSWER_S, 2)
        boto3.client("s3").create_bucket(Bucket="test")
        nights = Nights(Workspace.open(f"s3://test/{port}/ws"), str(place / "repository"))
        yield nights, PublishConfig(repository=str(place / "repository"), registry_ttl_s=1), illness


def _restore(settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _limit(connect_s: float, answer_s: float, attempts: int) -> None:
    object_store.CONNECT_S, object_store.ANSWER_S, object_store.ATTEMPTS = connect_s, answer_s, attempts  # type: ignore[assignment]


def s3_outages(place: Path, trials: list[tuple[str, float]]) -> None:
    """Trials by (kind of illness, share of the requests of an undisturbed publication after which it begins)."""
    with sick_store(place) as (nights, config, illness):
        publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(MEMBERS), 0), {0: 0}), config)
        illness.begin("")
        publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(MEMBERS), 0.5), {0: 0}), config)
        usual = len(illness.seen)
        for kind, share in trials:
            outcome = s3_trial(nights, config, illness, kind, int(usual * share))
            print(f"s3 {kind} after {share:.0%} of {usual} requests: {outcome[:90]}", flush=True)


def main() -> None:
    """Run random trials until all are done or one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", type=int, default=30)
    parser.add_argument("--s3", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    chance = random.Random(args.seed)
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="outages-") as place:
        # a number for each trial keeps the folders of two trials of one kind apart
        for number in range(args.redis):
            trial = (chance.choice(list(TROUBLES)), chance.randrange(6))
            (Path(place) / str(number)).mkdir()
            redis_outages(Path(place) / str(number), [trial])
        s3_outages(Path(place), [(chance.choice(KINDS), chance.random()) for _ in range(args.s3)])
    print("all outages were named and completed")


if __name__ == "__main__":
    sys.exit(main())
