"""What the model knows by name: titles, metadata values, request contexts and value levels.

Row 0 of every title table is the unknown title, rows 1 … n are `title_ids`, row n + 1 is the start of
a history. It is saved beside the weights as `vocabulary.json` and `titles.parquet`.
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.metadata import Metadata
from stores import columns
from stores.storage import parquet_bytes

UNKNOWN_TITLE = 0
CONTEXTS = (columns.DEVICE, columns.COUNTRY, columns.LOCALE)
_KEPT_CONTEXTS = 255
_LEVELS = 10


@dataclass(frozen=True)
class Vocabulary:
    """Titles with at least one token in training, and the values of every categorical feature."""

    title_ids: pa.Array
    runtimes: npt.NDArray[np.float64]
    """(n,) seconds; NaN where unknown."""
    contexts: dict[str, tuple[str, ...]]
    levels: tuple[float, ...]
    """Inner edges of the quantile levels of `value`."""
    metadata: Metadata

    @classmethod
    def build(cls, histories: pa.Table, catalogue: pa.Table, config: FoundationConfig) -> "Vocabulary":
        """The vocabulary of training histories; titles of the catalogue without a token stay unknown."""
        played = pc.unique(histories[columns.TITLE_ID].combine_chunks().flatten())
        known = catalogue.filter(pc.is_in(catalogue[columns.TITLE_ID], value_set=played))
        known = known.sort_by(columns.TITLE_ID)
        values = histories[columns.VALUE].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            title_ids=known[columns.TITLE_ID].combine_chunks(),
            runtimes=known["runtime_s"].to_numpy().astype(np.float64),
            contexts={name: _frequent(histories[name]) for name in CONTEXTS},
            levels=_levels(values),
            metadata=Metadata.build(known, config),
        )

    @property
    def start(self) -> int:
        """The row that stands for the start of a history."""
        return len(self.title_ids) + 1

    def rows(self, title_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Rows of titles; 0 for those not known."""
        found = pc.index_in(title_ids.cast(self.title_ids.type), value_set=self.title_ids)
        return np.asarray(pc.fill_null(found, -1), dtype=np.int64) + 1

    def files(self) -> dict[str, bytes]:
        """The vocabulary as files; the same vocabulary always gives the same bytes."""
        titles = pa.table({columns.TITLE_ID: self.title_ids, "runtime_s": self.runtimes})
        rest = {"contexts": self.contexts, "levels": self.levels, "metadata": self.metadata.model_dump()}
        return {
            "titles.parquet": bytes(parquet_bytes(titles)),
            "vocabulary.json": json.dumps(rest, ensure_ascii=False, indent=1).encode(),
        }

    @classmethod
    def from_files(cls, files: dict[str, bytes]) -> "Vocabulary":
        """The inverse of `files`."""
        # not pq.read_table, which loads pyarrow.dataset and with it pandas
        titles = pq.ParquetFile(pa.BufferReader(files["titles.parquet"])).read()
        rest = json.loads(files["vocabulary.json"])
        return cls(
            title_ids=titles[columns.TITLE_ID].combine_chunks(),
            runtimes=titles["runtime_s"].to_numpy(),
            contexts={name: tuple(values) for name, values in rest["contexts"].items()},
            levels=tuple(rest["levels"]),
            metadata=Metadata(**rest["metadata"]),
        )


def _frequent(lists: pa.ChunkedArray) -> tuple[str, ...]:
    """The most frequent values, ties by name."""
    values = lists.combine_chunks().flatten().drop_null()
    counts = pc.value_counts(values)
    table = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
    table = table.sort_by([("count", "descending"), ("value", "ascending")])
    return tuple(table["value"][:_KEPT_CONTEXTS].to_pylist())


def _levels(values: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """Distinct inner quantiles: each value's level is the number of edges at or below it."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    edges = np.unique(np.quantile(known, np.arange(1, _LEVELS) / _LEVELS))
    return tuple(float(edge) for edge in edges)
