"""Tables on their way through a worker: slices for batches, rows with their vectors, letters for refused rows."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.bisection import Refusal
from embeddings.encoder_output import Vectors
from stores.columns import (
    EMBEDDING,
    ENCODED_AT,
    MEMBER_ID,
    RELEASE_ID,
    TIME,
    TITLE_ID,
    dead_letter_schema,
    history_schema,
    member_vector_schema,
    title_vector_schema,
)
from stores.release import Release


def with_texts(rows: pa.Table) -> pa.Table:
    """Histories in the contract's own types: texts instead of codes of them."""
    return rows.cast(history_schema(rows.schema.field(MEMBER_ID).type, rows.schema.field(TITLE_ID).type.value_type))


def by_rows(rows: pa.Table, size: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices."""
    for start in range(0, rows.num_rows, size):
        yield start, min(size, rows.num_rows - start)


def by_tokens(histories: pa.Table, size: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices of at most `size` members and, but for one member alone, `tokens`."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(histories[TITLE_ID]), 0), dtype=np.int64)
    ends, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = min(start + size, max(start + 1, int(np.searchsorted(ends, before + tokens, side="right"))))
        yield start, min(end, len(lengths)) - start
        start = end


def with_vectors(rows: pa.Table, vectors: Vectors, kind: str, release: Release) -> pa.Table:
    """Rows of histories or of the catalogue with their vectors, in the columns of a shard."""
    count, dim = vectors.shape
    columns = {name: rows[name] for name in rows.column_names}
    columns[EMBEDDING] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    columns[RELEASE_ID] = pa.array([release.release_id] * count, pa.string())
    columns[ENCODED_AT] = pa.array([release.plan.created_at] * count, TIME)
    if kind == "titles":
        schema = title_vector_schema(rows.schema.field(TITLE_ID).type, dim)
    else:
        columns["history_length"] = pc.list_value_length(rows[TITLE_ID])
        schema = member_vector_schema(rows.schema.field(MEMBER_ID).type, dim)
    return pa.table({field.name: columns[field.name].cast(field.type) for field in schema}, schema=schema)


def vectors_of(table: pa.Table) -> Vectors:
    """(n, d) float32: the vectors of rows with an embedding of one width each."""
    column = table[EMBEDDING].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(table.num_rows, column.type.list_size)


def dead_letter(kind: str, rows: pa.Table, refused: Iterable[Refusal]) -> pa.Table:
    """Letters of the rows that the encoder failed on, by their position in `rows`."""
    column = TITLE_ID if kind == "titles" else MEMBER_ID
    letters = [
        {"source": "encoder", "row": position, "column": column, "value": str(rows[column][position]), "reason": reason}
        for position, reason in refused
    ]
    return pa.Table.from_pylist(letters, schema=dead_letter_schema())
