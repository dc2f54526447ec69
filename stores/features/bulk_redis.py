"""The bulk writer for Feast's Redis online store.

Feast keeps one hash per entity: its key is the entity key and the project, its fields are a murmur
hash of "view:feature", and `_ts:view` is the event time. Views of one entity share the hash, so a
departure removes the view's own fields only. Unlike Feast's writer this one does not skip rows whose
time is not newer: a rollback has to be seen.
"""

from datetime import datetime
from typing import Any

from stores.features.views import FEATURES


class RedisWriter:
    """Writes through a pipeline of one round trip per batch."""

    def __init__(self, client: Any, config: Any) -> None:
        self.client, self.suffix = client, config.project.encode()
        self.ttl = config.online_store.key_ttl_seconds

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys."""
        names = [_stamp(view.name), *(_field(view.name, feature) for feature in values)]
        moment = _timestamp(at)
        with self.client.pipeline(transaction=False) as pipe:
            for key, *row in zip(keys, *values.values(), strict=True):
                cells = [item for pair in zip(names, (moment, *row), strict=True) for item in pair]
                pipe.execute_command("HSET", key + self.suffix, *cells)
                if self.ttl:
                    pipe.expire(key + self.suffix, self.ttl)
            pipe.execute()

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Remove a view's fields; Redis drops a hash without fields."""
        names = [_stamp(view.name), *(_field(view.name, feature) for feature in FEATURES)]
        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hdel(key + self.suffix, *names)
            pipe.execute()

    def close(self) -> None:
        """Give the connection back."""
        self.client.close()


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
