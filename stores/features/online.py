"""Writing the online store: the rows that a difference changes, the entities that it removes.

SQLite and Redis have bulk writers of Feast's documented layout; any other store goes through Feast's
`online_write_batch`, where a departed entity gets null values because that interface cannot remove one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from stores.errors import SamespaceError, StoreError
from stores.features.delta import Delta
from stores.features.library import load_feast
from stores.features.repository import FeatureRepository
from stores.features.values import entity_keys, feature_values
from stores.features.views import FEATURES, KINDS, Kind


class OnlineWriter(Protocol):
    """Writes one batch of serialised rows of a view."""

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys, also where those are newer."""

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Remove the rows of a view."""

    def close(self) -> None:
        """Make what was written durable."""


class OnlineViews:
    """The views of one space, open for writing; a context manager. Raises StoreError where the store refuses."""

    def __init__(self, repository: FeatureRepository, space_id: str) -> None:
        self.space_id, self.batch_rows = space_id, repository.config.batch_rows
        with _store_errors(repository):
            load_feast()
            from feast.infra.online_stores.helpers import get_online_store_from_config

            store = repository.open()
            self.config = store.config
            self.views = {kind.entity: store.get_feature_view(kind.view(space_id)) for kind in KINDS}
            self.store = get_online_store_from_config(store.config.online_store)
            self.store.update(store.config, [], list(self.views.values()), [], [], partial=True)
            self.writer = _writer(self.store, store.config)
        self.repository = repository

    def __enter__(self) -> "OnlineViews":
        return self

    def __exit__(self, *_: object) -> None:
        with _store_errors(self.repository):
            self.writer.close()

    def write(self, kind: Kind, parts: Iterator[Delta], at: datetime, check: Callable[[], None]) -> int:
        """Apply differences; `check` is called before each batch. Returns the rows written and removed."""
        view, rows = self.views[kind.entity], 0
        with _store_errors(self.repository):
            for delta in parts:
                for start in range(0, delta.written.num_rows, self.batch_rows):
                    check()
                    table = delta.written.slice(start, self.batch_rows).combine_chunks()
                    keys = entity_keys(table.column(kind.join_key).combine_chunks(), kind.join_key)
                    self.writer.write(view, keys, feature_values(table, self.space_id), at)
                for start in range(0, len(delta.departed), self.batch_rows):
                    check()
                    gone = delta.departed.slice(start, self.batch_rows)
                    self.writer.remove(view, entity_keys(gone, kind.join_key))
                rows += delta.rows
        return rows


@contextmanager
def _store_errors(repository: FeatureRepository) -> Iterator[None]:
    """Whatever a store raises becomes a StoreError that names the store."""
    try:
        yield
    except SamespaceError:
        raise
    except Exception as error:
        raise StoreError(
            f"the online store refused: {type(error).__name__}: {error}",
            where=f"[publish] online_store, type {repository.config.online_store.get('type', 'sqlite')}",
            fix="make the store reachable and run the command again: it goes on where it stopped",
        ) from error


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
        self.write(view, keys, {name: [b""] * len(keys) for name in FEATURES}, datetime.now(UTC))

    def close(self) -> None:
        """Nothing is held open here."""
