"""Writing the online store: the rows that a difference changes, the entities that it removes.

SQLite and Redis have bulk writers of Feast's documented layout; any other store goes through Feast's
`online_write_batch`, where a departed entity gets null values because that interface cannot remove one.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa

from stores.features.delta import Delta
from stores.features.repository import FeatureRepository, online_store_of
from stores.features.store_errors import store_errors
from stores.features.values import entity_keys, feature_values
from stores.features.views import View


class OnlineWriter(Protocol):
    """Writes one batch of serialised rows of a view."""

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys, also where those are newer."""

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Remove the rows of a view."""

    def purge(self) -> None:
        """Leave no byte of removed rows behind."""

    def close(self) -> None:
        """Make what was written durable."""


class OnlineViews:
    """The online store, open for writing some views of one slot; a context manager.

    Raises StoreError where the store refuses.
    """

    def __init__(self, repository: FeatureRepository, names: list[str]) -> None:
        self.repository, self.batch_rows = repository, repository.config.batch_rows
        with store_errors(repository.config):
            store = repository.open()
            self.views = {name: store.get_feature_view(name) for name in names}
            self.store = online_store_of(store.config)
            self.store.update(store.config, [], list(self.views.values()), [], [], partial=True)
            self.writer = _writer(self.store, store.config)

    def __enter__(self) -> "OnlineViews":
        return self

    def __exit__(self, *_: object) -> None:
        with store_errors(self.repository.config):
            self.writer.close()

    def write(self, view: View, place: tuple[str, str], parts: Iterator[Delta], move: "Moment") -> int:
        """Apply differences to a view of a (space, slot); returns the rows written and removed."""
        space_id, slot = place
        feast_view, rows = self.views[view.view(space_id, slot)], 0
        with store_errors(self.repository.config):
            for delta in parts:
                for start in range(0, delta.written.num_rows, self.batch_rows):
                    move.check()
                    table = delta.written.slice(start, self.batch_rows).combine_chunks()
                    keys = entity_keys(table.column(view.join_key).combine_chunks(), view.join_key)
                    self.writer.write(feast_view, keys, feature_values(view, table, space_id), move.at)
                self._remove(feast_view, view.join_key, delta.departed, move.check)
                rows += delta.rows
        return rows

    def erase(self, join_key: str, ids: pa.Array) -> None:
        """Remove entities from every view that is open, and every trace of their rows."""
        with store_errors(self.repository.config):
            for feast_view in self.views.values():
                self._remove(feast_view, join_key, ids, lambda: None)
            self.writer.purge()

    def _remove(self, feast_view: Any, join_key: str, ids: pa.Array, check: Callable[[], None]) -> None:
        for start in range(0, len(ids), self.batch_rows):
            check()
            self.writer.remove(feast_view, entity_keys(ids.slice(start, self.batch_rows), join_key))


class Moment:
    """When a move takes effect, and what is called before each batch: it raises once the lease is lost."""

    def __init__(self, at: datetime, check: Callable[[], None]) -> None:
        self.at, self.check = at, check


def _writer(store: Any, config: Any) -> OnlineWriter:
    kind = config.online_store.type
    if kind == "sqlite" and not (
        config.online_store.vector_enabled or config.online_store.enable_openai_compatible_store
    ):
        from stores.features.bulk_sqlite import SqliteWriter

        return SqliteWriter(store._get_db_path(config), config.project)
    if kind == "redis":
        from stores.features.bulk_redis import RedisWriter

        return RedisWriter(store._get_client(config.online_store), config)
    return FeastWriter(store, config)


class FeastWriter:
    """Any store, through Feast's own interface."""

    def __init__(self, store: Any, config: Any) -> None:
        self.store, self.config = store, config

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys, as far as the store allows."""
        from feast.infra.key_encoding_utils import deserialize_entity_key
        from feast.protos.feast.types.Value_pb2 import Value

        rows = zip(*values.values(), strict=True)
        data = [
            (deserialize_entity_key(key, 3), dict(zip(values, map(Value.FromString, row), strict=True)), at, at)
            for key, row in zip(keys, rows, strict=True)
        ]
        self.store.online_write_batch(self.config, view, data, None)

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Put null values in place of the rows of entities."""
        self.write(view, keys, {feature.name: [b""] * len(keys) for feature in view.features}, datetime.now(UTC))

    def purge(self) -> None:
        """What a store keeps of overwritten values is the store's own affair."""

    def close(self) -> None:
        """Nothing is held open here."""
