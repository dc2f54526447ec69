"""The reference of a space: for each established title, the first position that it took there.

It begins with the release that opened the space. A title that the reference lacks enters once it has
enough plays, with its aligned vector of that night. Every release carries the table as of itself, built on
that of the release that was live when its night began: so a title counts from a promoted release on, a rollback
takes its additions back, and errors do not accumulate, because a position is never rewritten.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment.second_moments import Rows
from stores.errors import MismatchError
from stores.releases.release import Release
from stores.schema import EMBEDDING, RELEASE_ID, TITLE_ID, embedding_type

REFERENCE_FILE = "reference.parquet"


def reference_of(release: Release) -> pa.Table | None:
    """The reference table that a night starts from: `title_id`, `embedding` (s floats), `release_id` that added it.

    None on the first night. Taken from the release that was live, if that is in the planned space, else from
    the one that opened the space.
    """
    plan = release.plan
    if plan.reference_release is None:
        return None
    live = release.other(plan.previous_release) if plan.previous_release else None
    source = live if live and live.space_id == plan.space_id else release.other(plan.reference_release)
    return source.read_table(REFERENCE_FILE)


def add_titles(reference: pa.Table | None, ids: pa.Array, vectors: Rows, release_id: str) -> pa.Table:
    """The reference with those of the established titles `ids` (n,), `vectors` (n, s), that it lacks."""
    new = pa.table(
        {
            TITLE_ID: ids,
            EMBEDDING: to_column(vectors),
            RELEASE_ID: pa.array([release_id] * len(ids), pa.string()),
        }
    )
    if reference is None:
        return new
    known = positions_in(new[TITLE_ID], reference[TITLE_ID]) >= 0
    return pa.concat_tables([reference, new.filter(pa.array(~known))]).combine_chunks()


def positions_in(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each id stands in `among`, (n,); −1 where it does not. Raises MismatchError where the kinds differ."""
    if ids.type != among.type:
        raise MismatchError(f"ids are {ids.type} here and {among.type} in the reference")
    found = pc.fill_null(pc.index_in(ids, value_set=among), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class KeyedVectors:
    """Ids (n,) and their vectors (n, d) float32, row by row."""

    ids: pa.ChunkedArray
    matrix: Rows


def keyed_vectors(table: pa.Table, key: str = TITLE_ID) -> KeyedVectors:
    """The ids and vectors of a table of vectors."""
    return KeyedVectors(table[key], to_matrix(table))


def to_matrix(table: pa.Table) -> Rows:
    """The `embedding` column as (n, d) float32, without a copy where it is one chunk."""
    column = table[EMBEDDING].combine_chunks()
    array = column if isinstance(column, pa.FixedSizeListArray) else column.chunk(0)
    return np.asarray(array.flatten().to_numpy(zero_copy_only=False)).reshape(len(array), array.type.list_size)


def to_column(x: Rows) -> pa.FixedSizeListArray:
    """(n, d) rows as an `embedding` column."""
    flat = pa.array(np.ascontiguousarray(x, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=embedding_type(x.shape[1]))


HOLDOUT_MODULUS = 5
"""One anchor in five measures, the others fit."""


def id_hashes(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A uniform 64-bit number per id, (n,), from its text: whether ids are integers or strings does not matter."""
    digests = (hashlib.blake2b(str(value).encode(), digest_size=8).digest() for value in ids.to_pylist())
    return np.frombuffer(b"".join(digests), dtype="<u8")


def is_held_out(ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which anchors measure instead of fitting, (n,)."""
    return np.asarray(id_hashes(ids) % np.uint64(HOLDOUT_MODULUS) == 0)


def sample_shards(paths: list[str], rows: int, wanted: int) -> list[str]:
    """The first shards that together hold about `wanted` of `rows` rows: shards are themselves random by id."""
    if rows <= wanted:
        return paths
    return paths[: max(1, -(-wanted * len(paths) // rows))]
