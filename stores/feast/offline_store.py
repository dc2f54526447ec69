"""The offline history: what changed with every move of the pointer, one Parquet file per view and move.

`get_historical_features` at a past moment then returns what was live: a row's event time is the
journaled moment of the move, a departure is a row of nulls, and a rollback writes the earlier values
again at its own moment.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyarrow as pa

from stores.errors import StoreError
from stores.feast.checksums import record_checksums
from stores.feast.feature_views import (
    CREATED_TIMESTAMP,
    EVENT_TIMESTAMP,
    FeatureViewSpec,
    history_folder,
    history_schema,
)
from stores.feast.release_diff import ReleaseDiff
from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes, writer
from stores.schema import SPACE_ID, TIMESTAMP_TYPE

ROWS_PER_GROUP = 100_000
WRITING_SUFFIX = ".writing"
"""A view's history in the making is beside its folder, with this at the end of its name."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def history_path(view: FeatureViewSpec, space_id: str, name: str) -> str:
    """Where a move's rows of a view are, from the workspace's root."""
    return f"{history_folder(view, space_id)}/{name}.parquet"


def history_rows(view: FeatureViewSpec, space_id: str, at: datetime, delta: ReleaseDiff) -> pa.Table:
    """A difference as rows of the history, `views.history_schema`."""
    written, departed = delta.upserts, delta.departed
    schema = history_schema(view, written.schema)
    count, gone = written.num_rows, len(departed)
    moment = pa.array([at], TIMESTAMP_TYPE).take(pa.array([0] * (count + gone), pa.int32()))
    made = {
        view.join_key: [*written.column(view.join_key).chunks, departed],
        SPACE_ID: [pa.array([space_id] * count + [None] * gone, pa.string())],
    }
    for field in schema:
        if field.name in written.column_names and field.name not in made:
            made[field.name] = [*written.column(field.name).cast(field.type).chunks, pa.nulls(gone, field.type)]
    arrays = [pa.chunked_array(made[field.name], field.type) if field.name in made else moment for field in schema]
    return pa.table(arrays, schema=schema)


def beginning_rows(view: FeatureViewSpec, delta: ReleaseDiff) -> pa.Table:
    """A row of nulls at the beginning of time for each entity that is new.

    Feast's Dask store leaves out questions about moments before an entity's first row; with these rows it answers them
    with null, as its other stores do.
    """
    schema = history_schema(view, delta.upserts.schema)
    moment = pa.array([EPOCH], TIMESTAMP_TYPE).take(pa.array([0] * len(delta.arrived), pa.int32()))
    made = {view.join_key: delta.arrived, EVENT_TIMESTAMP: moment, CREATED_TIMESTAMP: moment}
    arrays = [made.get(field.name, pa.nulls(len(delta.arrived), field.type)) for field in schema]
    return pa.table(arrays, schema=schema)


def write_history(
    storage: Storage, path: str, schema: pa.Schema, tables: Iterator[pa.Table], check: Callable[[], None]
) -> int:
    """Stream tables into one Parquet file that readers see whole or not at all; returns its rows.

    `check` is called before each table. An empty file is written only where the view has none yet. Raises StoreError
    where the place refuses.
    """
    rows = 0
    with _temporary_file(storage, path) as stream:
        with writer(stream, schema) as made:
            for table in tables:
                check()
                made.write_table(table, ROWS_PER_GROUP)
                rows += table.num_rows
        if rows or not storage.files(path.rpartition("/")[0]):
            _publish_file(storage, path, stream)
    return rows


def rewrite_history(storage: Storage, path: str, table: pa.Table) -> None:
    """Put a table in place of the rows of a move, likewise whole or not at all."""
    with _temporary_file(storage, path) as stream:
        stream.write(parquet_bytes(table))
        _publish_file(storage, path, stream)


@contextmanager
def _temporary_file(storage: Storage, path: str) -> Iterator[IO[bytes]]:
    """A file to fill, outside the view's folder because DuckDB's glob would read it there; gone unless it was put.

    For an object store it has no name, so that a killed process leaves none behind.
    """
    try:
        if not storage.is_local:
            with tempfile.TemporaryFile() as stream:
                yield stream
            return
        made = storage.local(path.rpartition("/")[0] + WRITING_SUFFIX)
        made.with_suffix("").mkdir(parents=True, exist_ok=True)
        try:
            with made.open("w+b") as stream:
                yield stream
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error}", where=storage.uri, fix="check free space and rights"
        ) from error


def _publish_file(storage: Storage, path: str, stream: IO[bytes]) -> None:
    """Put what was made in its place: by one rename, on an object store by one PUT."""
    record_checksums(storage, {path: _hash_of(stream)})
    if storage.is_local:
        os.fsync(stream.fileno())
        Path(stream.name).replace(storage.local(path))
        return
    from stores.files.object_store import put_object

    stream.seek(0)
    put_object(storage.uri, path, stream)


def _hash_of(stream: IO[bytes]) -> str:
    stream.seek(0)
    found = hashlib.sha256()
    while part := stream.read(1 << 20):
        found.update(part)
    return found.hexdigest()
