"""The bulk writer for Feast's Redis online store.

Feast keeps one hash per entity: its key is the entity key and the project, its fields are a murmur
hash of "view:feature", and `_ts:view` is the event time. Views of one entity share the hash, so a
departure removes the view's own fields only. Unlike Feast's writer this one does not skip rows whose
time is not newer: a rollback has to be seen.

Commands are put together as bytes of the protocol, because packing them argument by argument costs redis-py more
than the server needs to run them. They can all be repeated, so a lost connection is opened again and the batch resent.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice, repeat
from time import sleep
from typing import Any

COMMANDS = 1000
"""Commands in one piece; two pieces are on their way before the replies to the first are read."""
ATTEMPTS, PAUSE_S = 4, 0.5
"""A lost connection is tried this often, with a pause that doubles."""


class RedisWriter:
    """Writes rows as commands, many on their way at once; one connection."""

    def __init__(self, client: Any, config: Any) -> None:
        self.client, self.suffix = client, config.project.encode()
        self.deliver = _Pieces(client) if hasattr(client, "connection_pool") else _Pipeline(client)

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys. Raises what redis-py raises where the server refuses."""
        whole, moment = [key + self.suffix for key in keys], _timestamp(at)
        names = [_stamp(view.name), *(_field(view.name, feature) for feature in values)]
        columns: list[Iterable[bytes]] = [repeat(moment), *values.values()]

        def rows() -> Iterator[tuple[bytes, ...]]:
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


class _Pieces:
    """Delivers rows of arguments, one command each, over one connection of a single server."""

    def __init__(self, client: Any) -> None:
        self.connection = client.connection_pool.get_connection()
        self.pool = client.connection_pool

    def __call__(self, rows: Callable[[], Iterator[tuple[bytes, ...]]]) -> None:
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import TimeoutError as Late

        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._once(map(_command, rows()))
                return
            except (Lost, Late):
                self.connection.disconnect()
                if attempt == ATTEMPTS:
                    raise
                sleep(PAUSE_S * 2 ** (attempt - 1))
            except BaseException:
                self.connection.disconnect()  # replies that were not read belong to nobody
                raise

    def _once(self, commands: Iterator[bytes]) -> None:
        waiting: deque[int] = deque()
        while piece := list(islice(commands, COMMANDS)):
            self.connection.send_packed_command([b"".join(piece)])
            waiting.append(len(piece))
            if len(waiting) > 1:
                self._read(waiting.popleft())
        while waiting:
            self._read(waiting.popleft())

    def _read(self, replies: int) -> None:
        for _ in range(replies):
            self.connection.read_response()

    def close(self) -> None:
        """Give the connection back to the pool."""
        self.pool.release(self.connection)


class _Pipeline:
    """The same through redis-py's own pipeline, which finds the server of each key in a cluster."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __call__(self, rows: Callable[[], Iterator[tuple[bytes, ...]]]) -> None:
        left = rows()
        while piece := list(islice(left, COMMANDS)):
            with self.client.pipeline(transaction=False) as pipe:
                for row in piece:
                    pipe.execute_command(*row)
                pipe.execute()

    def close(self) -> None:
        """Nothing is held open here."""


def _command(arguments: tuple[bytes, ...]) -> bytes:
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
