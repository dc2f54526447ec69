"""Write the online store: the rows that a difference changes, the entities that it removes.

SQLite and Redis have bulk writers of Feast's documented layout; any other store goes through Feast's
`online_write_batch`, where a departed entity gets null values because that interface cannot remove one.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stores import schema
from stores.feast.feature_views import BLUE_SLOT, EMBEDDINGS, FeatureViewSpec
from stores.feast.release_diff import ReleaseDiff
from stores.feast.repository import FeatureRepository, PublishConfig, embedding_service, online_store_of
from stores.feast.serialization import entity_keys, feature_values
from stores.feast.store_errors import store_errors
from stores.files.filesystem import Storage
from stores.releases.release import Release


class RowWriter(Protocol):
    """Writes one batch of serialised rows of a view."""

    def write(self, view: Any, keys: list[bytes], values: dict[str, list[bytes]], at: datetime) -> None:
        """Put rows in place of those with the same keys, also where those are newer."""

    def remove(self, view: Any, keys: list[bytes]) -> None:
        """Remove the rows of a view."""

    def purge(self) -> None:
        """Leave no byte of removed rows behind."""

    def close(self) -> None:
        """Make what was written durable."""


class OnlineStoreWriter:
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

    def __enter__(self) -> "OnlineStoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with store_errors(self.repository.config):
            self.writer.close()

    def write(
        self, view: FeatureViewSpec, place: tuple[str, str], parts: Iterator[ReleaseDiff], move: "WriteContext"
    ) -> int:
        """Apply differences to a view of a (space, slot); returns the rows written and removed."""
        space_id, slot = place
        feast_view, rows = self.views[view.view(space_id, slot)], 0
        with store_errors(self.repository.config):
            for delta in parts:
                for start in range(0, delta.upserts.num_rows, self.batch_rows):
                    move.assert_lease()
                    table = delta.upserts.slice(start, self.batch_rows).combine_chunks()
                    keys = entity_keys(table.column(view.join_key).combine_chunks(), view.join_key)
                    self.writer.write(feast_view, keys, feature_values(view, table, space_id), move.effective_at)
                self._remove(feast_view, view.join_key, delta.departed, move.assert_lease)
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


class WriteContext:
    """When a move takes effect, and what is called before each batch: it raises once the lease is lost."""

    def __init__(self, at: datetime, check: Callable[[], None]) -> None:
        self.effective_at, self.assert_lease = at, check


def _writer(store: Any, config: Any) -> RowWriter:
    kind = config.online_store.type
    if kind == "sqlite" and not (
        config.online_store.vector_enabled or config.online_store.enable_openai_compatible_store
    ):
        from stores.feast.sqlite_writer import SqliteWriter

        return SqliteWriter(store._get_db_path(config), config.project)
    if kind == "redis":
        from stores.feast.redis_writer import RedisWriter

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


Row = tuple[npt.NDArray[np.float32] | None, str | None]


def read_online_rows(config: PublishConfig, release: Release, folder: str, ids: list[Any]) -> list[Row]:
    """What Feast serves for ids of "members" or "titles" in the release's space, in the order of `ids`.

    Each is (vector (d,) float32, release in which it last changed); (None, None) where nothing is served.
    Raises what Feast raises where the store cannot be reached.
    """
    kind = next(kind for kind in EMBEDDINGS if kind.folder == folder)
    repository = FeatureRepository(Storage(release.workspace_uri), config)
    now = embedding_service(repository.described(), release.space_id)
    view, store = kind.view(release.space_id, now["slot"] if now else BLUE_SLOT), repository.open()
    features = [f"{view}:{schema.EMBEDDING}", f"{view}:{schema.RELEASE_ID}"]
    served = store.get_online_features(features, [{kind.join_key: entity} for entity in ids]).to_dict()
    rows = dict(
        zip(served[kind.join_key], zip(served[schema.EMBEDDING], served[schema.RELEASE_ID], strict=True), strict=True)
    )
    return [_row(*rows.get(entity, (None, None))) for entity in ids]


def _row(vector: list[float] | None, release_id: str | None) -> Row:
    return (None if vector is None else np.asarray(vector, np.float32)), release_id
