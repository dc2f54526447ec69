"""The offline history: what changed with every move of the pointer, one Parquet file per view and move.

`get_historical_features` at a past moment then returns what was live: a row's event time is the
journaled moment of the move, a departure is a row of nulls, and a rollback writes the earlier values
again at its own moment.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stores import columns
from stores.errors import StoreError
from stores.features.delta import Delta
from stores.features.views import BLUE, CREATED_TIMESTAMP, EVENT_TIMESTAMP, HISTORY, View, history_schema
from stores.storage import Storage

ROWS_PER_GROUP = 100_000
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def history_folder(view: View, space_id: str) -> str:
    """Where the rows of a view are, from the workspace's root; both slots of a view share them."""
    return f"{HISTORY}/{view.view(space_id, BLUE)}"


def history_path(view: View, space_id: str, name: str) -> str:
    """Where a move's rows of a view are, from the workspace's root."""
    return f"{history_folder(view, space_id)}/{name}.parquet"


def history_rows(view: View, space_id: str, at: datetime, delta: Delta) -> pa.Table:
    """A difference as rows of the history, `views.history_schema`."""
    written, departed = delta.written, delta.departed
    schema = history_schema(view, written.schema)
    count, gone = written.num_rows, len(departed)
    moment = pa.array([at], columns.TIME).take(pa.array([0] * (count + gone), pa.int32()))
    made = {
        view.join_key: [*written.column(view.join_key).chunks, departed],
        columns.SPACE_ID: [pa.array([space_id] * count + [None] * gone, pa.string())],
    }
    for field in schema:
        if field.name in written.column_names and field.name not in made:
            made[field.name] = [*written.column(field.name).cast(field.type).chunks, pa.nulls(gone, field.type)]
    arrays = [pa.chunked_array(made[field.name], field.type) if field.name in made else moment for field in schema]
    return pa.table(arrays, schema=schema)


def beginning_rows(view: View, delta: Delta) -> pa.Table:
    """A row of nulls at the beginning of time for each entity that is new.

    Feast's Dask store leaves out questions about moments before an entity's first row; with these rows it answers them
    with null, as its other stores do.
    """
    schema = history_schema(view, delta.written.schema)
    moment = pa.array([BEGINNING], columns.TIME).take(pa.array([0] * len(delta.arrived), pa.int32()))
    made = {view.join_key: delta.arrived, EVENT_TIMESTAMP: moment, CREATED_TIMESTAMP: moment}
    arrays = [made.get(field.name, pa.nulls(len(delta.arrived), field.type)) for field in schema]
    return pa.table(arrays, schema=schema)


def write_history(
    storage: Storage, path: str, schema: pa.Schema, tables: Iterator[pa.Table], check: Callable[[], None]
) -> int:
    """Stream tables into one Parquet file that readers see whole or not at all; returns its rows.

    The file is made outside the view's folder because DuckDB's glob would read it there, and put in place by one
    rename, on an object store by one PUT. `check` is called before each table. An empty file is written only where
    the view has none yet. Raises StoreError where the place refuses.
    """
    folder = path.rpartition("/")[0]
    rows, made = 0, _temporary(storage, folder)
    try:
        with made.open("wb") as stream:
            with pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True) as writer:
                for table in tables:
                    check()
                    writer.write_table(table, ROWS_PER_GROUP)
                    rows += table.num_rows
            stream.flush()
            os.fsync(stream.fileno())
        if rows or not storage.files(folder):
            _put(storage, path, made)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error}", where=storage.uri, fix="check free space and rights"
        ) from error
    finally:
        made.unlink(missing_ok=True)
    return rows


def _temporary(storage: Storage, folder: str) -> Path:
    if not storage.is_local:
        return Path(tempfile.mkstemp(prefix="samespace-", suffix=".parquet")[1])
    storage.local(folder).mkdir(parents=True, exist_ok=True)
    return storage.local(f"{folder}.writing")


def _put(storage: Storage, path: str, made: Path) -> None:
    if storage.is_local:
        made.replace(storage.local(path))
        return
    from stores.s3 import put

    with made.open("rb") as stream:
        put(storage.uri, path, stream)
