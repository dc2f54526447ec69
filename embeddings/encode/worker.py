"""The Ray worker of the encode job: one copy of the model, one shard after the other, from file to file.

A worker is given its next shard while it encodes one: reading and writing overlap the forward pass, of which
there is one at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from functools import reduce
from operator import add
from threading import Lock
from time import thread_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.encode.bisection import Refusal, encode_or_nan, encode_rows
from embeddings.encode.class_loading import import_from
from embeddings.encode.config import FOUNDATION_ENCODER, EncodeConfig
from embeddings.encode.encoder import DictionaryEncoder, Encoder, Vectors, load, takes_device
from embeddings.encode.precision import PrecisionChoice, TunableEncoder, choose_precision, device_of
from embeddings.encode.probe import Probe, probe, probe_sample, require_width_of_live, with_carried
from embeddings.encode.reuse import ReusableVectors, unchanged_rows
from embeddings.histories.changed_histories import IDENTITY_COLUMNS, read_changed_histories, read_dictionary_encoded
from stores.errors import MismatchError
from stores.releases.change_log import write_changes
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.runtime import do_without_pandas, keep_freed_memory, relax_garbage_collection, share_thread_pool
from stores.schema import (
    EMBEDDING,
    ENCODED_AT,
    MEMBER_ID,
    RELEASE_ID,
    TIMESTAMP_TYPE,
    TITLE_ID,
    dead_letter_schema,
    history_schema,
    member_vector_schema,
    title_vector_schema,
)

CATALOGUE = "work/catalogue.parquet"
_MIN_ROWS_PER_BATCH = 16_384
"""Members that fill their batches well."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to encode: titles from row `start` of the catalogue, or the members of a file of histories."""

    kind: str
    target: str
    source: str = CATALOGUE
    start: int = 0


@dataclass(frozen=True)
class ShardBatch:
    """Shards of which few members are encoded: together they fill batches that each alone would leave half empty."""

    tasks: tuple[ShardTask, ...]


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard: rows in its file, those carried forward, what the model was run on, processor seconds."""

    rows: int
    carried: int
    encoded: int
    tokens: int
    seconds: float = 0.0
    shards: int = 1

    def __add__(self, other: "ShardResult") -> "ShardResult":
        """What came of both."""
        return ShardResult(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ReusedRows:
    """Who was in an older shard, its rows that are kept, and the ids of tonight's in their order."""

    before: pa.ChunkedArray
    kept: pa.Table
    today: pa.ChunkedArray


@dataclass(frozen=True)
class PendingShard:
    """A shard of members on its way: whose histories are encoded, and what is carried forward beside them."""

    task: ShardTask
    rows: pa.Table
    carried: ReusedRows | None = None


@dataclass(frozen=True)
class Question:
    """What one worker is asked before any shard: the histories to look at, and the precision where it is known."""

    sample: str
    precision: PrecisionChoice | None = None


@dataclass(frozen=True)
class Examined:
    """Its answer: the precision of the night, and what the encoder was found to be."""

    precision: PrecisionChoice
    probe: Probe


def load_model(config: EncodeConfig, workspace: Workspace, model_id: str | None, device: str = "cpu") -> Encoder:
    """The configured encoder with `config.model`, else with the workspace's model of that id, if it has one."""
    kept = model_id in workspace.models.folders()
    if config.model or not kept:
        return load(config.encoder, config.model, device)
    with workspace.models.local_copy(str(model_id)) as folder:
        return load(config.encoder, str(folder), device)


class ShardWorker:
    """Holds one copy of the model and encodes one shard after the other."""

    def __init__(self, config: EncodeConfig, release: Release, carry: ReusableVectors | None, folder: str = "") -> None:
        self.config, self.release, self.carry, self.folder = config, release, carry, folder
        self.precision: PrecisionChoice | None = None
        self.encoder: Any = None
        self._loading, self._computing = Lock(), Lock()

    def ready(self) -> int:
        """Load the model, so that one that cannot be loaded is reported once; the width of its vectors.

        Raises MismatchError where it is not the model that the night was planned with.
        """
        with self._loading:
            if self.encoder is None:
                share_thread_pool()
                keep_freed_memory()
                relax_garbage_collection()
                if self.config.encoder == FOUNDATION_ENCODER:
                    do_without_pandas()
                else:
                    import_from(self.folder)
                planned = self.release.plan.model_id
                workspace = Workspace.open(self.release.workspace_uri)
                encoder = load_model(self.config, workspace, planned, device_of(self.config))
                if encoder.model_id != planned:
                    raise MismatchError(
                        f"the encoder's model is {encoder.model_id}, the night was planned with {planned}",
                        where=self.config.encoder,
                        fix="run the night again; it is planned with the model that is there",
                    )
                self.encoder = encoder
        return int(self.encoder.dim)

    def examine(self, question: Question) -> Examined:
        """The precision of the night, judged on the histories of one shard, and a probe of the encoder in it.

        Raises as `probe`, `require_width_of_live` and `with_carried`.
        """
        self.ready()
        require_width_of_live(self.encoder, self.release)
        histories, catalogue = self.release.read_table(question.sample), self.release.read_table(CATALOGUE)
        precision = question.precision or choose_precision(self.config, self.encoder, histories, catalogue)
        self._tune(precision)
        found = self._with_carried(probe(self.encoder, histories, catalogue), question.sample, histories)
        if self.config.gpus_per_worker and not takes_device(self.config.encoder):
            note = "GPUs are reserved, but load() of the encoder takes no `device`: it may compute on the processor"
            found = found.model_copy(update={"notes": (*found.notes, note)})
        return Examined(precision, found)

    def _with_carried(self, found: Probe, source: str, histories: pa.Table) -> Probe:
        """The probe with some members that are carried forward, encoded again."""
        before = self.carry.shard(source.rsplit("/", 1)[-1]) if self.carry else None
        if self.carry is None or before is None:
            return found
        kept = probe_sample(unchanged_rows(before, histories))
        rows = histories.take(pc.index_in(kept[MEMBER_ID], value_set=histories[MEMBER_ID].combine_chunks()))
        vectors = encode_or_nan(self.encoder.encode_members, rows, self.encoder.dim)
        sound = np.isfinite(vectors).all(axis=1)
        rows, kept = rows.filter(pa.array(sound)), kept.filter(pa.array(sound))
        tonight = self.carry.to_space(attach_vectors(rows, vectors[sound], "members", self.release))
        return with_carried(found, vectors_of(tonight), vectors_of(kept), self.carry.release.release_id)

    def _tune(self, precision: PrecisionChoice | None) -> None:
        """Let the encoder run in a precision, if it can choose."""
        with self._loading:
            if precision != self.precision and precision and isinstance(self.encoder, TunableEncoder):
                self.encoder = self.encoder.with_precision(precision.name, device_of(self.config))
            self.precision = precision

    def encode(
        self, work: ShardTask | ShardBatch, precision: PrecisionChoice | None = None, dim: int | None = None
    ) -> ShardResult:
        """Encode shards in a precision (default: the encoder's own) and write them.

        Raises MismatchError where the encoder has not the width `dim` that all shards of the night have.
        """
        self.ready()
        if dim not in (None, self.encoder.dim):
            raise MismatchError(
                f"the encoder of one worker has width {self.encoder.dim}, the night's shards have width {dim}",
                where=self.config.encoder,
                fix="let load() give the same model everywhere; give a changed model another model_id",
            )
        self._tune(precision)
        began = thread_time()
        if isinstance(work, ShardTask) and work.kind == "titles":
            done = self._encode_titles(work)
        else:
            done = reduce(add, self._encode_members(work.tasks if isinstance(work, ShardBatch) else [work]))
        return replace(done, seconds=thread_time() - began)

    def _encode_titles(self, task: ShardTask) -> ShardResult:
        catalogue = self.release.read_table(task.source)
        rows = catalogue.slice(task.start, self.config.titles_per_shard)
        found = self._encode_rows(rows, self.encoder.encode_titles, slice_by_rows(rows, self.config.batch_size))
        written = self.release.write_table(task.target, self._drop_rejected(task, rows, *found)).rows
        return ShardResult(written, 0, rows.num_rows, 0)

    def _encode_members(self, tasks: Iterable[ShardTask]) -> Iterator[ShardResult]:
        """Shards read one after the other, and encoded together as soon as there is enough for full batches."""
        waiting: list[PendingShard] = []
        for task in tasks:
            waiting.append(self._read_shard(task))
            if sum(part.rows.num_rows for part in waiting) >= _MIN_ROWS_PER_BATCH:
                yield from self._encode_pending(waiting)
                waiting = []
        yield from self._encode_pending(waiting)

    def _read_shard(self, task: ShardTask) -> PendingShard:
        """Members with a new history are encoded; the others are carried forward, if the night may."""
        shard = task.source.rsplit("/", 1)[-1]
        before = self.carry.shard(shard) if self.carry else None
        if self.carry is None or before is None:
            return PendingShard(task, read_dictionary_encoded(self.release, task.source))
        today = self.release.read_table(task.source, columns=IDENTITY_COLUMNS)
        kept = unchanged_rows(before, today)
        changed = pc.invert(pc.is_in(today[MEMBER_ID], value_set=kept[MEMBER_ID].combine_chunks()))
        rows = read_changed_histories(self.release, shard, today.filter(changed))
        return PendingShard(task, rows, ReusedRows(before[MEMBER_ID], kept, today[MEMBER_ID]))

    def _encode_pending(self, parts: list[PendingShard]) -> Iterator[ShardResult]:
        """Encode the rows of all parts in common batches, and write the shards."""
        if not parts:
            return
        rows = pa.concat_tables([part.rows for part in parts])
        rows = rows if isinstance(self.encoder, DictionaryEncoder) else decode_dictionaries(rows)
        slices = slice_by_tokens(rows, self.config.batch_size, self.config.batch_tokens)
        vectors, refused = self._encode_rows(rows, self.encoder.encode_members, slices)
        start = 0
        for part in parts:
            end = start + part.rows.num_rows
            own = [(position - start, reason) for position, reason in refused if start <= position < end]
            yield self._write_shard(part, self._drop_rejected(part.task, part.rows, vectors[start:end], own))
            start = end

    def _write_shard(self, part: PendingShard, table: pa.Table) -> ShardResult:
        """Write a shard of encoded and carried members: in the space where its transform is known."""
        tokens = pc.sum(pc.list_value_length(part.rows[TITLE_ID])).as_py() or 0
        made = self.carry.to_space(table) if self.carry else table
        if self.carry is None or (carried := part.carried) is None:
            return ShardResult(self.release.write_table(part.task.target, made).rows, 0, part.rows.num_rows, tokens)
        both = pa.concat_tables([made, carried.kept.cast(made.schema)])
        order = pc.index_in(carried.today, value_set=both[MEMBER_ID].combine_chunks())
        written = self.release.write_table(part.task.target, both.take(order.combine_chunks().drop_null()))
        write_changes(self.release, written, self.carry.release, carried.before, carried.kept[MEMBER_ID], made)
        return ShardResult(written.rows, carried.kept.num_rows, part.rows.num_rows, tokens)

    def _encode_rows(
        self, rows: pa.Table, encode: Callable[[pa.Table], Vectors], slices: Iterable[tuple[int, int]]
    ) -> tuple[Vectors, list[Refusal]]:
        """Vectors of histories or of the catalogue, and the rows that the model fails on."""
        parts, refused = [np.zeros((0, self.encoder.dim), np.float32)], []
        with self._computing:  # for all slices: two shards that take turns would read and write at the same time
            for start, count in slices:
                vectors, bad = encode_rows(encode, rows.slice(start, count), self.encoder.dim)
                parts.append(vectors)
                refused += [(start + position, reason) for position, reason in bad]
        return np.concatenate(parts), refused

    def _drop_rejected(self, task: ShardTask, rows: pa.Table, vectors: Vectors, refused: list[Refusal]) -> pa.Table:
        """Rows of a shard; those that the model failed on are put down and left out."""
        found = attach_vectors(rows, vectors, task.kind, self.release)
        if not refused:
            return found
        path = f"work/refused/{task.target.removeprefix('work/native/')}"
        self.release.write_table(path, rejected_rows(task.kind, rows, refused))
        keep = np.ones(rows.num_rows, bool)
        keep[[position for position, _ in refused]] = False
        return found.filter(pa.array(keep))


def decode_dictionaries(rows: pa.Table) -> pa.Table:
    """Histories in the contract's own types: texts instead of codes of them."""
    return rows.cast(history_schema(rows.schema.field(MEMBER_ID).type, rows.schema.field(TITLE_ID).type.value_type))


def slice_by_rows(rows: pa.Table, size: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices."""
    for start in range(0, rows.num_rows, size):
        yield start, min(size, rows.num_rows - start)


def slice_by_tokens(histories: pa.Table, size: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Start and length of consecutive slices of at most `size` members and, but for one member alone, `tokens`."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(histories[TITLE_ID]), 0), dtype=np.int64)
    ends, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = min(start + size, max(start + 1, int(np.searchsorted(ends, before + tokens, side="right"))))
        yield start, min(end, len(lengths)) - start
        start = end


def attach_vectors(rows: pa.Table, vectors: Vectors, kind: str, release: Release) -> pa.Table:
    """Rows of histories or of the catalogue with their vectors, in the columns of a shard."""
    count, dim = vectors.shape
    columns = {name: rows[name] for name in rows.column_names}
    columns[EMBEDDING] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    columns[RELEASE_ID] = pa.array([release.release_id] * count, pa.string())
    columns[ENCODED_AT] = pa.array([release.plan.created_at] * count, TIMESTAMP_TYPE)
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


def rejected_rows(kind: str, rows: pa.Table, refused: Iterable[Refusal]) -> pa.Table:
    """Letters of the rows that the encoder failed on, by their position in `rows`."""
    column = TITLE_ID if kind == "titles" else MEMBER_ID
    letters = [
        {"source": "encoder", "row": position, "column": column, "value": str(rows[column][position]), "reason": reason}
        for position, reason in refused
    ]
    return pa.Table.from_pylist(letters, schema=dead_letter_schema())
