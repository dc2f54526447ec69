"""The worker of the encode job: one copy of the model, one shard after the other, from file to file.

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

from embeddings.bisection import Refusal, encode_or_nan, encode_rows
from embeddings.carry import Carry, unchanged
from embeddings.changed import IDENTITY, changed_histories, coded_histories
from embeddings.encode_config import OURS, EncodeConfig
from embeddings.encoder import CodeReader, Encoder, load, takes_device
from embeddings.encoder_output import Vectors
from embeddings.own_class import import_from
from embeddings.own_process import collect_rarely, keep_memory, one_thread_pool
from embeddings.precision import Precision, TunableEncoder, choose, device_of
from embeddings.probe import Probe, probe, require_width_of_live, sample_of, with_carried
from embeddings.vector_rows import by_rows, by_tokens, dead_letter, vectors_of, with_texts, with_vectors
from stores.changes import write_changes
from stores.columns import MEMBER_ID, TITLE_ID
from stores.errors import MismatchError
from stores.release import Release
from stores.without_pandas import do_without_pandas
from stores.workspace import Workspace

CATALOGUE = "work/catalogue.parquet"
_ENOUGH = 16_384
"""Members that fill their batches well."""


@dataclass(frozen=True)
class Task:
    """One shard to encode: titles from row `start` of the catalogue, or the members of a file of histories."""

    kind: str
    target: str
    source: str = CATALOGUE
    start: int = 0


@dataclass(frozen=True)
class Group:
    """Shards of which few members are encoded: together they fill batches that each alone would leave half empty."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Done:
    """What came of a shard: rows in its file, those carried forward, what the model was run on, processor seconds."""

    rows: int
    carried: int
    encoded: int
    tokens: int
    seconds: float = 0.0
    shards: int = 1

    def __add__(self, other: "Done") -> "Done":
        """What came of both."""
        return Done(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Carried:
    """Who was in an older shard, its rows that are kept, and the ids of tonight's in their order."""

    before: pa.ChunkedArray
    kept: pa.Table
    today: pa.ChunkedArray


@dataclass(frozen=True)
class Part:
    """A shard of members on its way: whose histories are encoded, and what is carried forward beside them."""

    task: Task
    rows: pa.Table
    carried: Carried | None = None


@dataclass(frozen=True)
class Question:
    """What one worker is asked before any shard: the histories to look at, and the precision where it is known."""

    sample: str
    precision: Precision | None = None


@dataclass(frozen=True)
class Examined:
    """Its answer: the precision of the night, and what the encoder was found to be."""

    precision: Precision
    probe: Probe


def load_model(config: EncodeConfig, workspace: Workspace, model_id: str | None, device: str = "cpu") -> Encoder:
    """The configured encoder with `config.model`, else with the workspace's model of that id, if it has one."""
    kept = model_id in workspace.models.folders()
    if config.model or not kept:
        return load(config.encoder, config.model, device)
    with workspace.models.fetched(str(model_id)) as folder:
        return load(config.encoder, str(folder), device)


class ShardWorker:
    """Holds one copy of the model and encodes one shard after the other."""

    def __init__(self, config: EncodeConfig, release: Release, carry: Carry | None, folder: str = "") -> None:
        self.config, self.release, self.carry, self.folder = config, release, carry, folder
        self.precision: Precision | None = None
        self.encoder: Any = None
        self._loading, self._computing = Lock(), Lock()

    def ready(self) -> int:
        """Load the model, so that one that cannot be loaded is reported once; the width of its vectors.

        Raises MismatchError where it is not the model that the night was planned with.
        """
        with self._loading:
            if self.encoder is None:
                one_thread_pool()
                keep_memory()
                collect_rarely()
                if self.config.encoder == OURS:
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
        precision = question.precision or choose(self.config, self.encoder, histories, catalogue)
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
        kept = sample_of(unchanged(before, histories))
        rows = histories.take(pc.index_in(kept[MEMBER_ID], value_set=histories[MEMBER_ID].combine_chunks()))
        vectors = encode_or_nan(self.encoder.encode_members, rows, self.encoder.dim)
        sound = np.isfinite(vectors).all(axis=1)
        rows, kept = rows.filter(pa.array(sound)), kept.filter(pa.array(sound))
        tonight = self.carry.aligned(with_vectors(rows, vectors[sound], "members", self.release))
        return with_carried(found, vectors_of(tonight), vectors_of(kept), self.carry.release.release_id)

    def _tune(self, precision: Precision | None) -> None:
        """Let the encoder run in a precision, if it can choose."""
        with self._loading:
            if precision != self.precision and precision and isinstance(self.encoder, TunableEncoder):
                self.encoder = self.encoder.tuned(precision.name, device_of(self.config))
            self.precision = precision

    def encode(self, work: Task | Group, precision: Precision | None = None, dim: int | None = None) -> Done:
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
        if isinstance(work, Task) and work.kind == "titles":
            done = self._titles(work)
        else:
            done = reduce(add, self._members(work.tasks if isinstance(work, Group) else [work]))
        return replace(done, seconds=thread_time() - began)

    def _titles(self, task: Task) -> Done:
        catalogue = self.release.read_table(task.source)
        rows = catalogue.slice(task.start, self.config.titles_per_shard)
        found = self._vectors(rows, self.encoder.encode_titles, by_rows(rows, self.config.batch_size))
        written = self.release.write_table(task.target, self._accepted(task, rows, *found)).rows
        return Done(written, 0, rows.num_rows, 0)

    def _members(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Shards read one after the other, and encoded together as soon as there is enough for full batches."""
        waiting: list[Part] = []
        for task in tasks:
            waiting.append(self._read(task))
            if sum(part.rows.num_rows for part in waiting) >= _ENOUGH:
                yield from self._encoded(waiting)
                waiting = []
        yield from self._encoded(waiting)

    def _read(self, task: Task) -> Part:
        """Members with a new history are encoded; the others are carried forward, if the night may."""
        shard = task.source.rsplit("/", 1)[-1]
        before = self.carry.shard(shard) if self.carry else None
        if self.carry is None or before is None:
            return Part(task, coded_histories(self.release, task.source))
        today = self.release.read_table(task.source, columns=IDENTITY)
        kept = unchanged(before, today)
        changed = pc.invert(pc.is_in(today[MEMBER_ID], value_set=kept[MEMBER_ID].combine_chunks()))
        rows = changed_histories(self.release, shard, today.filter(changed))
        return Part(task, rows, Carried(before[MEMBER_ID], kept, today[MEMBER_ID]))

    def _encoded(self, parts: list[Part]) -> Iterator[Done]:
        """Encode the rows of all parts in common batches, and write the shards."""
        if not parts:
            return
        rows = pa.concat_tables([part.rows for part in parts])
        rows = rows if isinstance(self.encoder, CodeReader) else with_texts(rows)
        slices = by_tokens(rows, self.config.batch_size, self.config.batch_tokens)
        vectors, refused = self._vectors(rows, self.encoder.encode_members, slices)
        start = 0
        for part in parts:
            end = start + part.rows.num_rows
            own = [(position - start, reason) for position, reason in refused if start <= position < end]
            yield self._written(part, self._accepted(part.task, part.rows, vectors[start:end], own))
            start = end

    def _written(self, part: Part, table: pa.Table) -> Done:
        """Write a shard of encoded and carried members: in the space where its transform is known."""
        tokens = pc.sum(pc.list_value_length(part.rows[TITLE_ID])).as_py() or 0
        made = self.carry.aligned(table) if self.carry else table
        if self.carry is None or (carried := part.carried) is None:
            return Done(self.release.write_table(part.task.target, made).rows, 0, part.rows.num_rows, tokens)
        both = pa.concat_tables([made, carried.kept.cast(made.schema)])
        order = pc.index_in(carried.today, value_set=both[MEMBER_ID].combine_chunks())
        written = self.release.write_table(part.task.target, both.take(order.combine_chunks().drop_null()))
        write_changes(self.release, written, self.carry.release, carried.before, carried.kept[MEMBER_ID], made)
        return Done(written.rows, carried.kept.num_rows, part.rows.num_rows, tokens)

    def _vectors(
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

    def _accepted(self, task: Task, rows: pa.Table, vectors: Vectors, refused: list[Refusal]) -> pa.Table:
        """Rows of a shard; those that the model failed on are put down and left out."""
        found = with_vectors(rows, vectors, task.kind, self.release)
        if not refused:
            return found
        path = f"work/refused/{task.target.removeprefix('work/native/')}"
        self.release.write_table(path, dead_letter(task.kind, rows, refused))
        keep = np.ones(rows.num_rows, bool)
        keep[[position for position, _ in refused]] = False
        return found.filter(pa.array(keep))
