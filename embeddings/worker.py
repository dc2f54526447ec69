"""The worker of the encode job: one copy of the model, one shard after the other, from file to file.

A worker is given its next shard while it encodes one: reading and writing overlap the forward pass, of which
there is one at a time.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from time import thread_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.bisection import Refusal, Vectors, encode_rows
from embeddings.carry import Carry, unchanged
from embeddings.changed import IDENTITY, changed_histories, coded_histories
from embeddings.encode_config import EncodeConfig
from embeddings.encoder import CodeReader, Encoder, load
from embeddings.precision import Precision, TunableEncoder, choose, device_of
from stores.columns import (
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
from stores.errors import MismatchError
from stores.release import Release
from stores.workspace import Workspace

CATALOGUE = "work/catalogue.parquet"


@dataclass(frozen=True)
class Task:
    """One shard to encode: titles from row `start` of the catalogue, or the members of a file of histories."""

    kind: str
    target: str
    source: str = CATALOGUE
    start: int = 0


@dataclass(frozen=True)
class Done:
    """What came of a shard: rows in its file, those carried forward, what the model was run on, processor seconds."""

    rows: int
    carried: int
    encoded: int
    tokens: int
    seconds: float = 0.0


def load_model(config: EncodeConfig, workspace: Workspace, model_id: str | None) -> Encoder:
    """The configured encoder with `config.model`, else with the workspace's model of that id, if it has one."""
    kept = model_id in workspace.models.folders()
    return load(config.encoder, config.model or (str(workspace.models.fetch(str(model_id))) if kept else ""))


class ShardWorker:
    """Holds one copy of the model and encodes one shard after the other."""

    def __init__(self, config: EncodeConfig, release: Release, carry: Carry | None) -> None:
        self.config, self.release, self.carry = config, release, carry
        self.precision: Precision | None = None
        self.encoder: Any = None
        self._loading, self._computing = Lock(), Lock()

    def ready(self) -> int:
        """Load the model, so that one that cannot be loaded is reported once; the width of its vectors.

        Raises MismatchError where it is not the model that the night was planned with.
        """
        with self._loading:
            if self.encoder is None:
                _one_thread_pool()
                planned = self.release.plan.model_id
                encoder = load_model(self.config, Workspace.open(self.release.workspace_uri), planned)
                if encoder.model_id != planned:
                    raise MismatchError(
                        f"the encoder's model is {encoder.model_id}, the night was planned with {planned}",
                        where=self.config.encoder,
                        fix="run the night again; it is planned with the model that is there",
                    )
                self.encoder = encoder
        return int(self.encoder.dim)

    def choose_precision(self, sample: str) -> Precision:
        """The precision of the night, judged on the histories of one shard."""
        self.ready()
        histories = self.release.storage.read_table(sample)
        return choose(self.config, self.encoder, histories, self.release.storage.read_table(CATALOGUE))

    def encode(self, task: Task, precision: Precision | None = None) -> Done:
        """Encode one shard in a precision (default: the encoder's own) and write it."""
        self.ready()
        with self._loading:
            if precision != self.precision and precision and isinstance(self.encoder, TunableEncoder):
                self.encoder = self.encoder.tuned(precision.name, device_of(self.config))
            self.precision = precision
        began = thread_time()
        done = self._titles(task) if task.kind == "titles" else self._members(task)
        return replace(done, seconds=thread_time() - began)

    def _titles(self, task: Task) -> Done:
        catalogue = self.release.storage.read_table(task.source)
        rows = catalogue.slice(task.start, self.config.titles_per_shard)
        found = self._vectors(task, rows, self.encoder.encode_titles, _by_rows(rows, self.config.batch_size))
        written = self.release.write_table(task.target, found).rows
        return Done(written, 0, rows.num_rows, 0)

    def _members(self, task: Task) -> Done:
        """Members with a new history are encoded; the others are carried forward, if the night may."""
        shard = task.source.rsplit("/", 1)[-1]
        before, kept = self.carry.shard(shard) if self.carry else None, None
        if self.carry is not None and before is not None:
            today = self.release.storage.read_table(task.source, columns=IDENTITY)
            kept = unchanged(self.carry, before, today)
            changed = pc.invert(pc.is_in(today[MEMBER_ID], value_set=kept[MEMBER_ID].combine_chunks()))
            rows = changed_histories(self.release, shard, today.filter(changed))
        else:
            rows = coded_histories(self.release, task.source)
        rows = rows if isinstance(self.encoder, CodeReader) else _with_texts(rows)
        slices = _by_tokens(rows, self.config.batch_size, self.config.batch_tokens)
        table = self._vectors(task, rows, self.encoder.encode_members, slices)
        if kept is not None:
            both = pa.concat_tables([table, kept.cast(table.schema)])
            order = pc.index_in(today[MEMBER_ID], value_set=both[MEMBER_ID].combine_chunks())
            table = both.take(order.combine_chunks().drop_null())
        written = self.release.write_table(task.target, table).rows
        if self.carry is not None and self.carry.aligned is not None:
            placed = self.carry.aligned(table, self.release.release_id, before)
            self.release.write_table(f"members/{shard}", placed)
        tokens = pc.sum(pc.list_value_length(rows[TITLE_ID])).as_py() or 0
        return Done(written, 0 if kept is None else kept.num_rows, rows.num_rows, tokens)

    def _vectors(
        self, task: Task, rows: pa.Table, encode: Callable[[pa.Table], Vectors], slices: Iterable[tuple[int, int]]
    ) -> pa.Table:
        """Rows of histories or of the catalogue as rows of a shard; those that the model fails on are put down."""
        parts, refused = [np.zeros((0, self.encoder.dim), np.float32)], []
        for start, count in slices:
            with self._computing:
                vectors, bad = encode_rows(encode, rows.slice(start, count), self.encoder.dim)
            parts.append(vectors)
            refused += [(start + position, reason) for position, reason in bad]
        if refused:
            path = f"work/refused/{task.target.removeprefix('work/native/')}"
            self.release.write_table(path, _dead_letter(task.kind, rows, refused))
        keep = np.ones(rows.num_rows, bool)
        keep[[position for position, _ in refused]] = False
        return _with_vectors(rows, np.concatenate(parts), task.kind, self.release).filter(pa.array(keep))


def _with_texts(rows: pa.Table) -> pa.Table:
    """Histories in the contract's own types: texts instead of codes of them."""
    return rows.cast(history_schema(rows.schema.field(MEMBER_ID).type, rows.schema.field(TITLE_ID).type.value_type))


def _one_thread_pool() -> None:
    """Arrow's threads as many as torch's: the processors that Ray gave the worker, so that none waits."""
    pa.set_cpu_count(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))


def _by_rows(rows: pa.Table, size: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices."""
    for start in range(0, rows.num_rows, size):
        yield start, min(size, rows.num_rows - start)


def _by_tokens(histories: pa.Table, size: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices of at most `size` members and, but for one member alone, `tokens`."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(histories[TITLE_ID]), 0), dtype=np.int64)
    ends, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = min(start + size, max(start + 1, int(np.searchsorted(ends, before + tokens, side="right"))))
        yield start, min(end, len(lengths)) - start
        start = end


def _with_vectors(rows: pa.Table, vectors: Vectors, kind: str, release: Release) -> pa.Table:
    """Rows of histories or of the catalogue with their vectors, in the columns of a shard."""
    count, dim = vectors.shape
    columns = {name: rows[name] for name in rows.column_names}
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    columns[RELEASE_ID] = pa.array([release.release_id] * count, pa.string())
    columns[ENCODED_AT] = pa.array([release.plan.created_at] * count, TIME)
    if kind == "titles":
        schema = title_vector_schema(rows.schema.field(TITLE_ID).type, dim)
    else:
        columns["history_length"] = pc.list_value_length(rows[TITLE_ID])
        schema = member_vector_schema(rows.schema.field(MEMBER_ID).type, dim)
    return pa.table({field.name: columns[field.name].cast(field.type) for field in schema}, schema=schema)


def _dead_letter(kind: str, rows: pa.Table, refused: Iterable[Refusal]) -> pa.Table:
    column = TITLE_ID if kind == "titles" else MEMBER_ID
    letters = [
        {"source": "encoder", "row": position, "column": column, "value": str(rows[column][position]), "reason": reason}
        for position, reason in refused
    ]
    return pa.Table.from_pylist(letters, schema=dead_letter_schema())
