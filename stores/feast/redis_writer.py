"""Write the online store on Redis and Redis Cluster: pipelines of whole rows, a deadline for every wait.

Without one redis-py waits for ever for a server that accepts connections and does not answer.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice, repeat
from time import sleep
from typing import Any

from stores.errors import ConfigError

CONNECT_S, ANSWER_S = 10, 60
"""Seconds to open a connection and to wait for a reply, where `connection_string` names none."""
DEADLINES = {"socket_connect_timeout": CONNECT_S, "socket_timeout": ANSWER_S}
REDIS_TYPES = ("redis", "redis_cluster", "redis_sentinel")
REDIS_SETTING = "[publish.online_store] connection_string"


def with_deadlines(connection_string: str, deadlines: dict[str, float] | None = None) -> str:
    """Return the connection string with the timeouts that it lacks."""
    given = {option.partition("=")[0] for option in connection_string.split(",") if "=" in option}
    lacking = {name: value for name, value in (deadlines or DEADLINES).items() if name not in given}
    return ",".join([connection_string, *(f"{name}={value}" for name, value in lacking.items())])


def redis_nodes(connection_string: str) -> list[str]:
    """Return the servers of a connection string as `host:port`, which holds no secret.

    Raises ConfigError where there is none, or one without a port: Feast would fail with a KeyError.
    """
    found = [part for part in connection_string.split(",") if "=" not in part]
    for server in found or [""]:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or "@" in server or "/" in server:
            raise ConfigError(
                "a server of the connection string is not host:port",
                where=REDIS_SETTING,
                expected="host:port,password=${NAME},ssl=true (no redis:// URL: Feast does not read one)",
                fix="write one host:port for each server, then options as name=value, all separated by commas",
            )
    return found


def check_redis_address(block: Any) -> None:
    """Raise ConfigError where Feast's block of a Redis store, as Feast parsed it, cannot work."""
    servers = redis_nodes(block.connection_string)
    kind = str(getattr(block.redis_type, "value", block.redis_type))
    if kind not in REDIS_TYPES:
        raise ConfigError(
            f"samespace cannot write redis_type {kind}", where=REDIS_SETTING, expected=" or ".join(REDIS_TYPES)
        )
    options = dict(part.partition("=")[::2] for part in block.connection_string.split(",") if "=" in part)
    if kind == "redis_cluster" and options.get("db", "0") != "0":
        raise ConfigError(
            "a Redis Cluster has no database but 0", where=REDIS_SETTING, fix="remove db= from the string"
        )
    if kind == "redis" and len(servers) > 1:
        raise ConfigError(
            f"connection_string names {len(servers)} servers, of which Feast would use the first alone",
            where=REDIS_SETTING,
            fix='name one server, or set redis_type = "redis_cluster" or "redis_sentinel"',
        )


COMMANDS_PER_BATCH = 1000
"""Commands in one piece; two pieces are on their way before the replies to the first are read."""
MAX_ATTEMPTS, RETRY_PAUSE_S = 4, 0.5
"""A lost connection is tried this often, with a pause that doubles."""

Row = tuple[bytes, ...]
"""The arguments of one command: its name, its key, then fields and values."""


class RedisWriter:
    """Writes rows as commands, many on their way at once; one connection to a server, or to each node of a cluster."""

    def __init__(self, client: Any, config: Any) -> None:
        self.client, self.suffix = client, config.project.encode()
        self.deliver = _ClusterPieces(client) if hasattr(client, "nodes_manager") else _RawConnection(client)

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys. Raises what redis-py raises where the server refuses."""
        whole, moment = [key + self.suffix for key in keys], _timestamp(at)
        names = [_stamp(view.name), *(_field(view.name, feature) for feature in values)]
        columns: list[Iterable[bytes]] = [repeat(moment), *values.values()]

        def rows() -> Iterator[Row]:
            cells = [one for pair in zip(map(repeat, names), columns, strict=True) for one in pair]
            return zip(repeat(b"HSET"), whole, *cells, strict=False)

        self.deliver(rows)

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Remove a view's fields; Redis drops a hash without fields."""
        names = [_stamp(view.name), *(_field(view.name, feature.name) for feature in view.features)]
        whole = [key + self.suffix for key in keys]
        self.deliver(lambda: zip(repeat(b"HDEL"), whole, *map(repeat, names), strict=False))

    def purge(self) -> None:
        """Redis keeps nothing of removed fields in memory; its own files on disk are the operator's to rewrite."""

    def close(self) -> None:
        """Give the connection back."""
        self.deliver.close()
        self.client.close()


class _RawConnection:
    """Delivers rows of arguments, one command each, over one connection of a single server."""

    def __init__(self, client: Any) -> None:
        self.pool = client.connection_pool
        self.connection: Any = None

    def __call__(self, rows: Callable[[], Iterator[Row]]) -> None:
        _repeated(lambda: self._once(map(_command, rows())), self._forget)

    def _once(self, commands: Iterator[bytes]) -> None:
        if self.connection is None:
            self.connection = self.pool.get_connection()
        waiting: deque[int] = deque()
        while piece := list(islice(commands, COMMANDS_PER_BATCH)):
            self.connection.send_packed_command([b"".join(piece)])
            waiting.append(len(piece))
            if len(waiting) > 1:
                self._read(waiting.popleft())
        while waiting:
            self._read(waiting.popleft())

    def _read(self, replies: int) -> None:
        for _ in range(replies):
            self.connection.read_response()

    def _forget(self) -> None:
        """Drop the connection; the pool opens another, behind sentinels to whichever server is master then."""
        if self.connection is not None:
            self.connection.disconnect()
            self.close()

    def close(self) -> None:
        """Give the connection back to the pool."""
        if self.connection is not None:
            self.pool.release(self.connection)
            self.connection = None


class _ClusterPieces:
    """Delivers the same rows to a cluster: each to the node that serves its key, over one connection per node.

    A row that a node redirects (MOVED, ASK, TRYAGAIN: a slot is on its way to another node) is sent once more through
    redis-py's own client, which follows redirections; those that come after it go to the new node at once.
    """

    def __init__(self, client: Any) -> None:
        self.client, self.nodes = client, client.nodes_manager
        self.connections: dict[str, tuple[Any, Any]] = {}

    def __call__(self, rows: Callable[[], Iterator[Row]]) -> None:
        _repeated(lambda: self._once(rows()), self._forget)

    def _once(self, rows: Iterator[Row]) -> None:
        waiting: deque[dict[str, list[Row]]] = deque()
        while piece := list(islice(rows, COMMANDS_PER_BATCH)):
            waiting.append(self._send(piece))
            if len(waiting) > 1:
                self._read(waiting.popleft())
        while waiting:
            self._read(waiting.popleft())

    def _send(self, piece: list[Row]) -> dict[str, list[Row]]:
        """Send each row to the node of its key; the rows by node, in the order of the replies to come."""
        from redis.crc import key_slot

        sent: dict[str, list[Row]] = {}
        places: dict[str, Any] = {}
        for row in piece:
            node = self.nodes.get_node_from_slot(key_slot(row[1]))
            places[node.name] = node
            sent.setdefault(node.name, []).append(row)
        for name, rows in sent.items():
            self._connection(places[name]).send_packed_command([b"".join(map(_command, rows))])
        return sent

    def _read(self, sent: dict[str, list[Row]]) -> None:
        from redis.exceptions import AskError, MovedError, TryAgainError

        redirected = []
        for name, rows in sent.items():
            connection = self.connections[name][1]
            for row in rows:
                try:
                    connection.read_response()
                except (AskError, TryAgainError) as error:  # MovedError is an AskError
                    redirected.append(row)
                    if isinstance(error, MovedError):
                        self.nodes.move_slot(error)
        for command, *arguments in redirected:
            self.client.execute_command(command.decode(), *arguments)

    def _connection(self, node: Any) -> Any:
        if node.name not in self.connections:
            pool = self.client.get_redis_connection(node).connection_pool
            self.connections[node.name] = pool, pool.get_connection()
        return self.connections[node.name][1]

    def _forget(self) -> None:
        """Drop every connection and ask the cluster again which node serves what."""
        for pool, connection in self.connections.values():
            connection.disconnect()
            pool.release(connection)
        self.connections.clear()
        with suppress(Exception):  # where no node answers, the next attempt says so
            self.nodes.initialize()

    def close(self) -> None:
        """Give the connections back to their pools."""
        for pool, connection in self.connections.values():
            pool.release(connection)
        self.connections.clear()


def _repeated(deliver: Callable[[], None], start_over: Callable[[], None]) -> None:
    """Deliver, again where the connection was lost, the server was late or a cluster is electing a master."""
    from redis.exceptions import ClusterDownError
    from redis.exceptions import ConnectionError as Lost
    from redis.exceptions import TimeoutError as Late

    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            deliver()
            return
        except (Lost, Late, ClusterDownError):
            start_over()
            if attempt == MAX_ATTEMPTS:
                raise
            sleep(RETRY_PAUSE_S * 2 ** (attempt - 1))
        except BaseException:
            start_over()  # replies that were not read belong to no later command
            raise


def _command(arguments: Row) -> bytes:
    """A command in the protocol's own bytes."""
    sized = [b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments]
    return b"*%d\r\n%b" % (len(arguments), b"".join(sized))


def _stamp(view: str) -> bytes:
    return f"_ts:{view}".encode()


def _field(view: str, feature: str) -> bytes:
    from feast.infra.online_stores.helpers import _mmh3

    return bytes(_mmh3(f"{view}:{feature}"))


def _timestamp(at: datetime) -> bytes:
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # has no type stubs

    made = Timestamp()
    made.FromDatetime(at)
    return bytes(made.SerializeToString())
