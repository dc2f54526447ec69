"""The catalogue: every accepted title with its metadata, its plays so far and its age as of the snapshot."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.quarantine import micros
from embeddings.histories.snapshot import Snapshot
from stores.schema import EMBEDDING, TIMESTAMP_TYPE, TITLE_ID, catalogue_schema

MICROS_PER_DAY = 86_400_000_000
FIRST_LAUNCH = datetime(1677, 9, 22, tzinfo=UTC)
"""Earlier ones are placeholders of other systems (0001-01-01, 1601-01-01), and nanoseconds cannot hold them."""
FARTHEST_LAUNCH = timedelta(days=50 * 365)
"""A launch farther ahead says "not yet" (9999-12-31, 2099-12-31)."""


@dataclass(frozen=True)
class Catalogue:
    """Titles by id (`columns.catalogue_schema`), and which of their cells were taken as missing.

    The vectors in the column `embedding` are finite and all of one length, or null.
    """

    table: pa.Table
    missing: list[dict[str, Any]]


def build_catalogue(snapshot: Snapshot, plays: npt.NDArray[np.int64]) -> Catalogue:
    """The catalogue as of the snapshot; `plays` has one entry per title in the order of their ids.

    `age_days` = (as_of − launch_time) in whole days, so that two nights of one day make the same vectors: NaN where
    the launch is unknown, negative before it.
    """
    schema = catalogue_schema(snapshot.titles.id_types[TITLE_ID])
    titles = snapshot.catalogue()
    launch = _launches(titles["launch_time"], snapshot.moment.as_of)
    vectors, whys = content_vectors(titles[EMBEDDING])
    unlaunched = pc.and_(pc.is_valid(titles["launch_time"]), pc.is_null(launch))
    whys |= {"launch_time": {f"not between {FIRST_LAUNCH:%Y-%m-%d} and 50 years ahead": unlaunched}}
    stored = {name: titles[name] for name in titles.column_names}
    stored |= {
        "launch_time": launch.cast(TIMESTAMP_TYPE),
        EMBEDDING: vectors,
        "plays": pa.array(plays),
        "age_days": pc.fill_null(pc.floor(_ages(launch, snapshot.moment.as_of)), np.nan),
    }
    table = pa.table({field.name: stored[field.name].cast(field.type) for field in schema}, schema=schema)
    return Catalogue(table, _missing(titles[TITLE_ID], whys))


def _launches(launch: pa.ChunkedArray, as_of: datetime) -> pa.ChunkedArray:
    first, last = micros(FIRST_LAUNCH), micros(as_of + FARTHEST_LAUNCH)
    known = pc.and_(pc.greater_equal(launch, first), pc.less_equal(launch, last))
    return pc.if_else(known, launch, pa.scalar(None, launch.type))


def _ages(launch: pa.ChunkedArray, as_of: datetime) -> pa.ChunkedArray:
    return pc.divide(pc.cast(pc.subtract(micros(as_of), launch), pa.float64()), float(MICROS_PER_DAY))


def content_vectors(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, dict[str, dict[str, pa.ChunkedArray]]]:
    """The vectors of a `list<float32>` column that can be used, null elsewhere; second which are not, by reason.

    A vector is used where it is finite in every element and as long as most of the finite ones (the longer of two
    lengths that are equally frequent).
    """
    judged = [_Vectors.of(chunk) for chunk in column.chunks]
    width = _width(np.concatenate([part.lengths[part.finite] for part in judged] or [np.zeros(0, np.int64)]))
    made = pa.chunked_array([part.of_width(width) for part in judged], pa.list_(pa.float32()))
    whys = {
        "empty": [part.there & (part.lengths == 0) for part in judged],
        "a value that is not finite": [part.there & (part.lengths > 0) & ~part.finite for part in judged],
        f"another length than the catalogue's {width}": [part.finite & (part.lengths != width) for part in judged],
    }
    return made, {EMBEDDING: {why: pa.chunked_array(masks, pa.bool_()) for why, masks in whys.items()}}


@dataclass(frozen=True)
class _Vectors:
    """Vectors of some titles: which are there, their lengths (0 for none), which have finite elements only."""

    array: pa.Array
    there: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    finite: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, array: pa.Array) -> "_Vectors":
        there = array.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
        finite = there & (lengths > 0)
        bad = ~np.isfinite(array.flatten().to_numpy(zero_copy_only=False))
        finite[np.repeat(np.arange(len(array)), lengths)[bad]] = False
        return cls(array, there, lengths, finite)

    def of_width(self, width: int) -> pa.Array:
        """The finite vectors of that length, null for others."""
        used = self.finite & (self.lengths == width)
        kept = self.array.flatten().filter(pa.array(np.repeat(used, self.lengths)))
        offsets = np.append(0, np.cumsum(np.where(used, width, 0))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), kept, mask=pa.array(~used))


def _width(lengths: npt.NDArray[np.int64]) -> int:
    widths, counts = np.unique(lengths, return_counts=True)
    return int(widths[np.flatnonzero(counts == counts.max())[-1]]) if len(widths) else 0


def _missing(ids: pa.ChunkedArray, whys: dict[str, dict[str, pa.ChunkedArray]]) -> list[dict[str, Any]]:
    """How many titles' cells are taken as missing for each reason, and the first of those titles."""
    found = []
    for column, reasons in whys.items():
        for why, mask in reasons.items():
            titles = ids.filter(mask)
            if len(titles):
                first = f"{TITLE_ID} {titles[0].as_py()}"
                found.append({"table": "titles", "column": column, "why": why, "cells": len(titles), "first": first})
    return found
