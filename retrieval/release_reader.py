"""Read rows of a release for retrieval: vectors, one row by its id, the origin of the titles, plain FAISS."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval.index_metadata import Origin
from retrieval.vectors import Vectors, refuse_non_finite
from stores.errors import CorruptError, UsageError
from stores.files.filesystem import Storage, sha256
from stores.releases.release import Release
from stores.schema import EMBEDDING, TITLE_ID

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")


def read_embeddings(table: pa.Table, where: str) -> Vectors:
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
    entries = release.manifest.files if release.sealed else release.completed_files()
    lines = sorted(f"{entry.path} {entry.sha256}" for entry in entries if entry.path.startswith("titles/"))
    return Origin(space_id=release.space_id, artifact=sha256("\n".join(lines).encode()))


def as_id(given: Any, kind: pa.DataType) -> Any:
    """An id in the kind of a column: text, or a whole number, which may be given as its digits.

    A number has one spelling (`int` of Python would read "1_0", "+10" and other scripts' digits as 10 too). Raises
    UsageError for whatever else, since it would have to be read as some other id.
    """
    whole = pa.types.is_integer(kind)
    expected = f"a whole number, as ids here are {kind}" if whole else f"text, as ids here are {kind}"
    usable = isinstance(given, str)
    if whole:
        number = isinstance(given, int | np.integer) and not isinstance(given, bool)
        usable = number or (isinstance(given, str) and _WHOLE.fullmatch(given) is not None)
    try:
        if usable:
            return pa.scalar(int(given) if whole else given, type=kind).as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:  # too large; not to be written as UTF-8
        raise UsageError(f"{given!r} cannot be an id", expected=expected) from error
    raise UsageError(f"{given!r} cannot be an id", expected=expected)


def id_type(storage: Storage, folder: str, column: str) -> pa.DataType:
    """The kind of the ids in the Parquet files of a folder. Raises CorruptError where there is no file."""
    for path in parquet_files(storage, folder):
        with storage.parquet(path) as file:
            return file.schema_arrow.field(column).type
    raise CorruptError(f"{folder}/ has no Parquet file", where=storage.uri)


def find_row(release: Release, folder: str, column: str, value: Any, columns: list[str]) -> pa.Table:
    """The row where `column` is `value`, or no row, in the Parquet files of a folder.

    Only the id column is read to find it, and row groups whose range excludes the id are passed over; the file that has
    it is then read whole and checked as by `Release.read_table`. Files are read one by one: `pyarrow.dataset` would
    load pandas, for which a command that looks has no time.
    """
    for path in parquet_files(release.storage, folder):
        with release.storage.parquet(path) as file:
            for group in range(file.num_row_groups):
                if _may_contain(file, group, column, value):
                    found = release.read_table(path, list({column: None, **dict.fromkeys(columns)}))
                    return found.filter(pc.equal(found[column], value)).select(columns)
    return pa.table({name: pa.nulls(0) for name in columns})


def parquet_files(storage: Storage, folder: str) -> list[str]:
    """Paths of the Parquet files below a folder, in the order of their names."""
    return [path for path in storage.files(folder) if path.endswith(".parquet")]


def _may_contain(file: pq.ParquetFile, group: int, column: str, value: Any) -> bool:
    """Whether an id is in a row group."""
    leaves = file.metadata.row_group(group)
    of_id = (leaves.column(i) for i in range(leaves.num_columns) if leaves.column(i).path_in_schema == column)
    known = next(of_id).statistics
    ranged = known is not None and known.has_min_max
    if ranged and not known.min <= value <= known.max:
        return False
    ids = file.read_row_group(group, [column])[column]
    return bool(pc.index(ids, pa.scalar(value, ids.type)).as_py() >= 0)


INDEX_FOLDER = "index"


def search_candidates(release: Release, queries: Vectors, k: int) -> tuple[list[list[Any]], npt.NDArray[np.float32]]:
    """The ids and inner products that `index/candidates.faiss` gives for (n, d) queries: n lists of k, and (n, k).

    Fewer ids than k where the index finds fewer. Raises CorruptError for files that were changed.
    """
    import faiss

    data = np.frombuffer(release.read_bytes(f"{INDEX_FOLDER}/candidates.faiss"), np.uint8)
    index = faiss.deserialize_index(data)
    ids = release.read_table(f"{INDEX_FOLDER}/ids.parquet", [TITLE_ID])[TITLE_ID].to_pylist()
    scores, rows = index.search(np.ascontiguousarray(queries, np.float32), k)
    return [[ids[row] for row in found if row >= 0] for found in rows.tolist()], scores
