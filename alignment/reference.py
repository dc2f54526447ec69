"""The reference of a space: for each established title, the first position that it took there.

It begins with the release that opened the space. A title that the reference lacks enters once it has
enough plays, with its aligned vector of that night. Every release carries the table as of itself, built on
that of the release that was live when its night began: so a title counts from a promoted release on, a rollback
takes its additions back, and errors do not accumulate, because a position is never rewritten.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment.gram import Rows
from stores.columns import EMBEDDING, RELEASE_ID, TITLE_ID, embedding_type
from stores.errors import MismatchError
from stores.release import Release

PATH = "reference.parquet"


def reference_of(release: Release) -> pa.Table | None:
    """The reference table that a night starts from: `title_id`, `embedding` (s floats), `release_id` that added it.

    None on the first night. Taken from the release that was live, if that is in the planned space, else from
    the one that opened the space.
    """
    plan = release.plan
    if plan.reference_release is None:
        return None
    live = release.sibling(plan.previous_release) if plan.previous_release else None
    source = live if live and live.space_id == plan.space_id else release.sibling(plan.reference_release)
    return source.read_table(PATH)


def grown(reference: pa.Table | None, ids: pa.Array, vectors: Rows, release_id: str) -> pa.Table:
    """The reference with those of the established titles `ids` (n,), `vectors` (n, s), that it lacks."""
    new = pa.table(
        {
            TITLE_ID: ids,
            EMBEDDING: vector_array(vectors),
            RELEASE_ID: pa.array([release_id] * len(ids), pa.string()),
        }
    )
    if reference is None:
        return new
    known = positions(new[TITLE_ID], reference[TITLE_ID]) >= 0
    return pa.concat_tables([reference, new.filter(pa.array(~known))]).combine_chunks()


def positions(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each id stands in `among`, (n,); −1 where it does not. Raises MismatchError where the kinds differ."""
    if ids.type != among.type:
        raise MismatchError(f"ids are {ids.type} here and {among.type} in the reference")
    found = pc.fill_null(pc.index_in(ids, value_set=among), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Ids (n,) and their vectors (n, d) float32, row by row."""

    ids: pa.ChunkedArray
    rows: Rows


def vectors_of(table: pa.Table, key: str = TITLE_ID) -> Vectors:
    """The ids and vectors of a table of vectors."""
    return Vectors(table[key], matrix_of(table))


def matrix_of(table: pa.Table) -> Rows:
    """The `embedding` column as (n, d) float32, without a copy where it is one chunk."""
    column = table[EMBEDDING].combine_chunks()
    array = column if isinstance(column, pa.FixedSizeListArray) else column.chunk(0)
    return np.asarray(array.flatten().to_numpy(zero_copy_only=False)).reshape(len(array), array.type.list_size)


def vector_array(x: Rows) -> pa.FixedSizeListArray:
    """(n, d) rows as an `embedding` column."""
    flat = pa.array(np.ascontiguousarray(x, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=embedding_type(x.shape[1]))
