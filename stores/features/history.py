"""The offline history: what changed with every move of the pointer, one Parquet file per view and move.

`get_historical_features` at a past moment then returns what was live: a row's event time is the
journaled moment of the move, a departure is a row of nulls, and a rollback writes the earlier values
again at its own moment.
"""

import os
from collections.abc import Callable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from stores import columns
from stores.errors import StoreError
from stores.features.delta import VALUES, Delta
from stores.features.views import HISTORY, Kind, history_schema
from stores.storage import Storage

ROWS_PER_GROUP = 100_000


def history_path(kind: Kind, space_id: str, name: str) -> str:
    """Where a move's rows of a view are, from the workspace's root."""
    return f"{HISTORY}/{kind.view(space_id)}/{name}.parquet"


def history_rows(kind: Kind, space_id: str, at: datetime, delta: Delta) -> pa.Table:
    """A difference as rows of the history, `views.history_schema`."""
    written, departed = delta.written, delta.departed
    schema = history_schema(kind, written.schema.field(kind.join_key).type)
    count, gone = written.num_rows, len(departed)
    ids = pa.chunked_array([*written.column(kind.join_key).chunks, departed], schema.field(kind.join_key).type)
    features = [
        pa.chunked_array([*written.column(name).cast(schema.field(name).type).chunks, _nulls(schema, name, gone)])
        for name in VALUES
    ]
    embedding, release_id, encoded_at = features
    space = pa.array([space_id] * count + [None] * gone, pa.string())
    moment = pa.array([at], columns.TIME).take(pa.array([0] * (count + gone), pa.int32()))
    return pa.table([ids, embedding, release_id, space, encoded_at, moment, moment], schema=schema)


def write_history(
    storage: Storage, path: str, schema: pa.Schema, tables: Iterator[pa.Table], check: Callable[[], None]
) -> int:
    """Stream tables into one Parquet file that readers see whole or not at all; returns its rows.

    The temporary file is outside the view's folder because DuckDB's glob would read it there.
    `check` is called before each table. An empty file is written only where the view has none yet.
    """
    target = storage.local(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = storage.local(f"{HISTORY}/{target.parent.name}.writing")
    rows = 0
    try:
        with temporary.open("wb") as stream:
            with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
                for table in tables:
                    check()
                    writer.write_table(table, ROWS_PER_GROUP)
                    rows += table.num_rows
            stream.flush()
            os.fsync(stream.fileno())
        if rows or not any(target.parent.glob("*.parquet")):
            temporary.replace(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error}", where=storage.uri, fix="check free space and rights"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _nulls(schema: pa.Schema, name: str, count: int) -> pa.Array:
    return pa.nulls(count, schema.field(name).type)
