"""What the model knows by name: titles, metadata values, request contexts and value levels.

Row 0 of every title table is the unknown title, rows 1 … n are `title_ids`, row n + 1 is the start of
a history. It is saved beside the weights as `vocabulary.json` and `titles.parquet`.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.metadata import MetadataVocabulary
from stores import schema
from stores.files.parquet import parquet_bytes, table_of

UNKNOWN_TITLE = 0
CONTEXTS = (schema.DEVICE, schema.COUNTRY, schema.LOCALE)
_MAX_CONTEXT_VALUES = 255
_NUM_VALUE_LEVELS = 10
_MAX_ID_SPREAD = 64
"""Ids that are this many times more spread than they are many are hashed, not looked up in a table."""


@dataclass(frozen=True)
class Vocabulary:
    """Titles with at least one token in training, and the values of every categorical feature."""

    title_ids: pa.Array
    runtimes: npt.NDArray[np.float64]
    """(n,) seconds; NaN where unknown."""
    contexts: dict[str, tuple[str, ...]]
    levels: tuple[float, ...]
    """Inner edges of the quantile levels of `value`."""
    metadata: MetadataVocabulary

    @classmethod
    def build(cls, histories: pa.Table, catalogue: pa.Table, config: FoundationConfig) -> "Vocabulary":
        """The vocabulary of training histories; titles of the catalogue without a token stay unknown."""
        played = pc.unique(histories[schema.TITLE_ID].combine_chunks().flatten())
        known = catalogue.filter(pc.is_in(catalogue[schema.TITLE_ID], value_set=played))
        known = known.sort_by(schema.TITLE_ID)
        values = histories[schema.VALUE].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            title_ids=known[schema.TITLE_ID].combine_chunks(),
            runtimes=known["runtime_s"].to_numpy().astype(np.float64),
            contexts={name: _frequent(histories[name]) for name in CONTEXTS},
            levels=_quantile_edges(values),
            metadata=MetadataVocabulary.build(known, config, catalogue),
        )

    @cached_property
    def known_runtimes(self) -> npt.NDArray[np.float64]:
        """By row: seconds; NaN where unknown, not above 0, not finite, or the row is no title."""
        runtimes = np.where((self.runtimes > 0) & np.isfinite(self.runtimes), self.runtimes, np.nan)
        return np.concatenate([[np.nan], runtimes, [np.nan]])

    @property
    def start(self) -> int:
        """The row that stands for the start of a history."""
        return len(self.title_ids) + 1

    def rows(self, title_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Rows of titles; 0 for those not known."""
        ids, known = title_ids.cast(self.title_ids.type), self._dense
        if known is not None and not ids.null_count:
            first, table = known
            found: npt.NDArray[np.int64] = table.take(np.clip(np.asarray(ids) - first, -1, len(table) - 2) + 1)
            return found
        hashed = pc.index_in(ids, value_set=self.title_ids)
        return np.asarray(pc.fill_null(hashed, -1), dtype=np.int64) + 1

    @cached_property
    def _dense(self) -> tuple[int, npt.NDArray[np.int64]] | None:
        """The lowest id, and rows by 1 + what an id lies above it, 0 at both ends; None where ids are far apart."""
        if not pa.types.is_integer(self.title_ids.type) or not len(self.title_ids):
            return None
        ids = np.asarray(self.title_ids)
        first, span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
        if span > _MAX_ID_SPREAD * len(ids):
            return None
        table = np.zeros(span + 2, np.int64)
        table[ids - first + 1] = np.arange(1, len(ids) + 1)
        return first, table

    def files(self) -> dict[str, bytes]:
        """The vocabulary as files; the same vocabulary always gives the same bytes."""
        titles = pa.table({schema.TITLE_ID: self.title_ids, "runtime_s": self.runtimes})
        rest = {"contexts": self.contexts, "levels": self.levels, "metadata": self.metadata.model_dump()}
        return {
            "titles.parquet": bytes(parquet_bytes(titles)),
            "vocabulary.json": json.dumps(rest, ensure_ascii=False, indent=1).encode(),
        }

    @classmethod
    def from_files(cls, files: dict[str, bytes]) -> "Vocabulary":
        """The inverse of `files`."""
        titles = table_of(files["titles.parquet"], "titles.parquet")
        rest = json.loads(files["vocabulary.json"])
        return cls(
            title_ids=titles[schema.TITLE_ID].combine_chunks(),
            runtimes=titles["runtime_s"].to_numpy(),
            contexts={name: tuple(values) for name, values in rest["contexts"].items()},
            levels=tuple(rest["levels"]),
            metadata=MetadataVocabulary(**rest["metadata"]),
        )


def _frequent(lists: pa.ChunkedArray) -> tuple[str, ...]:
    """The most frequent values, ties by name."""
    values = lists.combine_chunks().flatten().drop_null()
    counts = pc.value_counts(values)
    table = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
    table = table.sort_by([("count", "descending"), ("value", "ascending")])
    return tuple(table["value"][:_MAX_CONTEXT_VALUES].to_pylist())


def _quantile_edges(values: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """Distinct inner quantiles: each value's level is the number of edges at or below it."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    # In float64: between two values of float32 that are far apart the way would be infinite.
    edges = np.unique(np.quantile(known.astype(np.float64), np.arange(1, _NUM_VALUE_LEVELS) / _NUM_VALUE_LEVELS))
    return tuple(float(edge) for edge in edges)
