"""Rows of a release as retrieval needs them: vectors, one row by its id, and the origin of the titles."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from retrieval.card import Origin
from retrieval.vectors import Vectors, refuse_non_finite
from stores.columns import EMBEDDING
from stores.errors import CorruptError, UsageError
from stores.release import Release
from stores.storage import sha256


def embeddings(table: pa.Table, where: str) -> Vectors:
    """The embedding column as (n, d) float32.

    Raises CorruptError for missing vectors, UsageError for ones that are not finite.
    """
    column = table[EMBEDDING].combine_chunks()
    if column.null_count or not pa.types.is_fixed_size_list(column.type):
        raise CorruptError(f"{column.null_count} rows have no vector", where=where, expected="one vector in each row")
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    vectors: Vectors = flat.reshape(len(column), column.type.list_size)
    refuse_non_finite(vectors, f"vector of {where}, row")
    return vectors


def origin_of(release: Release) -> Origin:
    """The space of a release, and a hash over the hashes of its title files, which names the vectors in its indexes."""
    entries = release.manifest.files if release.sealed else release.entries()
    lines = sorted(f"{entry.path} {entry.sha256}" for entry in entries if entry.path.startswith("titles/"))
    return Origin(space_id=release.space_id, artifact=sha256("\n".join(lines).encode()))


def as_id(text: Any, kind: pa.DataType) -> Any:
    """An id as given on the command line, in the kind of a column. Raises UsageError where it cannot be one."""
    if not pa.types.is_integer(kind):
        return str(text)
    try:
        return pa.scalar(int(text), type=kind).as_py()
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise UsageError(f"{text!r} cannot be an id", expected=f"a whole number, as ids here are {kind}") from error


def find_row(dataset: ds.Dataset, column: str, value: Any, columns: list[str]) -> pa.Table:
    """The rows, at most one expected, where `column` is `value`.

    Only the id column is read to find the file, and row groups whose range excludes the id are passed over.
    """
    wanted = ds.field(column) == value
    found = dataset.scanner(columns=["__filename"], filter=wanted).head(1)
    if not len(found):
        return dataset.schema.empty_table().select(columns)
    path = found["__filename"][0].as_py()
    file = ds.dataset(path, filesystem=dataset.filesystem, format="parquet", schema=dataset.schema)
    return file.to_table(columns=columns, filter=wanted)
