"""Title ids beside the rows of an index: int64 or string, one kind, none twice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.vectors import Rows
from stores.errors import CorruptError, UsageError
from stores.schema import TITLE_ID

Ids = npt.NDArray[Any]
"""int64, or objects that are str."""


@dataclass(frozen=True)
class TitleIds:
    """The id of each row, (n,)."""

    values: Ids

    @classmethod
    def of(cls, ids: Any) -> "TitleIds":
        """Checked ids of a list, array or Arrow array. Raises UsageError for other kinds and for duplicates."""
        values = as_ids(ids, "title ids")
        _refuse_duplicates(values)
        return cls(values)

    @classmethod
    def from_table(cls, table: pa.Table) -> "TitleIds":
        """Ids as `to_table` wrote them. Raises CorruptError where the column is missing."""
        if TITLE_ID not in table.column_names:
            raise CorruptError(f"no column {TITLE_ID}", expected=f"a column {TITLE_ID} in row order")
        return cls(as_ids(table[TITLE_ID], "title ids"))

    def to_table(self) -> pa.Table:
        """One column `title_id`, in row order."""
        return pa.table({TITLE_ID: pa.array(self.values, type=pa.string() if self.is_text else pa.int64())})

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_text(self) -> bool:
        """Whether ids are str."""
        return self.values.dtype == object

    @cached_property
    def rank(self) -> Rows | None:
        """The place (n,) of each row's id among the sorted ids, which orders ties; None where rows are sorted."""
        if len(self) < 2 or bool(np.all(self.values[1:] > self.values[:-1])):
            return None
        rank = np.empty(len(self), dtype=np.int64)
        rank[self._sorted] = np.arange(len(self))
        return rank

    @cached_property
    def _sorted(self) -> Rows:
        column = self.to_table()[TITLE_ID].combine_chunks()
        return np.asarray(pc.array_sort_indices(column), dtype=np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.values)}

    def rows(self, ids: Any) -> Rows:
        """The row of each id, −1 where there is none. Raises UsageError for ids of the other kind."""
        asked = as_ids(ids, "ids")
        if len(asked) == 0 or len(self) == 0:
            return np.full(len(asked), -1, dtype=np.int64)
        if (asked.dtype == object) != self.is_text:
            kind = "text" if self.is_text else "whole numbers"
            raise UsageError(f"ids like {asked[0]!r} cannot be in this index", expected=f"ids that are {kind}")
        if self.is_text:
            return np.fromiter((self._row_of.get(value, -1) for value in asked), dtype=np.int64, count=len(asked))
        place = np.minimum(np.searchsorted(self.values, asked, sorter=self._sorted), len(self) - 1)
        rows = self._sorted[place]
        return np.where(self.values[rows] == asked, rows, -1)

    def excluded(self, exclude: Sequence[Any], queries: int) -> list[Rows]:
        """Rows to leave out for each query; ids that are not here are not missed. Raises UsageError."""
        if isinstance(exclude, (str, bytes, Mapping)) or not hasattr(exclude, "__len__"):
            given = f"{type(exclude).__name__} {exclude!r}"[:80]
            raise UsageError(f"exclude is {given}", expected=f"one list of ids for each of the {queries} queries")
        if len(exclude) != queries:
            raise UsageError(f"{len(exclude)} exclusion lists for {queries} queries", expected="one list per query")
        lists = [as_ids(() if ids is None else ids, "excluded ids") for ids in exclude]
        filled = [ids for ids in lists if len(ids)]
        if not filled:
            return [np.zeros(0, dtype=np.int64)] * queries
        rows = self.rows(np.concatenate(filled))
        parts = np.split(rows, np.cumsum([len(ids) for ids in lists])[:-1])
        return [part[part >= 0] for part in parts]

    def at(self, rows: Rows) -> Ids:
        """Ids in the shape of `rows`; −1 (or None for text) where the row is −1."""
        missing: Any = np.array([None], dtype=object) if self.is_text else np.array([-1], dtype=np.int64)
        return np.concatenate([self.values, missing])[rows]


def as_ids(ids: Any, what: str) -> Ids:
    """Ids as int64, or as objects that are str. Raises UsageError for every other kind."""
    if isinstance(ids, (pa.Array, pa.ChunkedArray)):
        ids = ids.to_numpy() if pa.types.is_integer(ids.type) and ids.null_count == 0 else ids.to_pylist()
    array = np.asarray(ids) if isinstance(ids, np.ndarray) else _from_sequence(ids, what)
    if array.ndim != 1:
        raise UsageError(f"{what} have shape {array.shape}", expected="one dimension")
    if array.size == 0:
        return array if array.dtype == object else array.astype(np.int64)
    if array.dtype.kind in "iu" and int(array.max()) <= np.iinfo(np.int64).max:
        return array.astype(np.int64)
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype == object:
        return _from_objects(array, what)
    raise UsageError(f"{what} are {array.dtype}", expected="int64 or str")


def _from_sequence(ids: Any, what: str) -> Ids:
    if isinstance(ids, (str, bytes, Mapping)) or not isinstance(ids, Iterable):
        raise UsageError(f"{what} are {type(ids).__name__} {ids!r}"[:80], expected="a list or an array of int64 or str")
    values = list(ids)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array if values else np.zeros(0, dtype=np.int64)


def _from_objects(array: Ids, what: str) -> Ids:
    kinds = set(map(type, array))
    if all(issubclass(kind, str) for kind in kinds):
        return np.array([*map(str, array), None], dtype=object)[:-1]
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        try:
            return array.astype(np.int64)
        except OverflowError as error:
            raise UsageError(f"{what} do not fit int64: {error}", expected="int64 or str") from error
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise UsageError(f"{what} are of kind {names}", expected="all int64 or all str, none missing")


def _refuse_duplicates(values: Ids) -> None:
    column = pa.array(values)
    if len(pc.unique(column)) == len(values):
        return
    first: dict[Any, int] = {}
    for row, value in enumerate(values.tolist()):
        if value in first:
            raise UsageError(f"title id {value!r} is given twice", where=f"rows {first[value]} and {row}")
        first[value] = row
