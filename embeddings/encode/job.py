"""The Ray job that runs a trained model over all titles and all members.

The shard is the unit of work, of resume and of output: a worker reads one shard of histories,
encodes it and writes one shard of vectors, in the space where that is known. Nothing but a
shard's path and its entry travels.

A worker needs seconds to start. A night lets them start while it judges its input, which keeps one processor busy.
"""

import logging
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa

from embeddings.encode.class_loading import working_folder
from embeddings.encode.config import EncodeConfig
from embeddings.encode.precision import PrecisionChoice
from embeddings.encode.probe import Probe
from embeddings.encode.reuse import ReusableVectors, reusable_from
from embeddings.encode.worker import (
    CATALOGUE,
    Examined,
    Question,
    ShardBatch,
    ShardResult,
    ShardTask,
    ShardWorker,
    load_model,
)
from stores.errors import ContractError, EncoderError
from stores.progress import Progress
from stores.ray_pool import ElasticActorPool, WorkerSpec
from stores.releases.release import Release, StageReport
from stores.schema import EMBEDDING, TITLE_ID, dead_letter_schema
from stores.settings import Settings

_LOG = logging.getLogger(__name__)
Found = TypeVar("Found", bound=Settings)

__all__ = ["NATIVE_MEMBERS", "NATIVE_TITLES", "EncodeJob", "load_model", "run"]

MEMBERS = "members"
NATIVE_MEMBERS = "work/native/members"
NATIVE_TITLES = "work/native/titles"
PRECISION = "work/precision.json"
PROBE = "work/probe.json"
_MAX_SHARDS_PER_BATCH = 6
"""Shards at most in a group: what a worker that dies has to do again."""


def run(config: EncodeConfig, release: Release, carry: ReusableVectors | None = None) -> StageReport:
    """Encode titles and members into native vectors; finished shards are not redone.

    With a `carry` that fits, members are written in its space, in `members/`, and those whose history did not change
    are carried forward from it; titles never are. Raises EncoderError where the model cannot be loaded, ContractError
    where it fails on too many rows.
    """
    with EncodeJob(config, release, carry) as job:
        return job.run()


class EncodeJob:
    """What `run` does, for callers who have something else to do while the workers start."""

    def __init__(self, config: EncodeConfig, release: Release, carry: ReusableVectors | None = None) -> None:
        self.config, self.release, self.carry = config, release, reusable_from(config, carry, release)
        self._pool: ElasticActorPool | None = None

    def __enter__(self) -> "EncodeJob":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def start(self) -> None:
        """Let the workers start and one of them judge the precision, and do not wait for them; histories are there."""
        if self._pool is None and (todo := self._pending_shards()):
            pool, sample = self._workers(), self._precision_sample()
            if sample and self._examined() is None:
                pool.submit("examine", Question(sample, self._known_precision()), tasks=len(todo))
            else:
                pool.start(len(todo))

    def run(self) -> StageReport:
        """Encode what is not finished; what `run` beside this class says."""
        todo = self._pending_shards()
        try:
            done = self._encode(todo) if todo else []
        finally:
            self._stop()
        found = _EncodedShards(self.release, self._members)
        precision, probe = (
            _journaled_precision(self.release, PRECISION, PrecisionChoice),
            _journaled_precision(self.release, PROBE, Probe),
        )
        refused = _collect_rejected_rows(self.config, self.release, found.rows)
        metrics = {
            "members": found.members,
            "titles": found.rows - found.members,
            "dim": found.dim,
            "refused": refused,
            "shards": len(found.shards),
            "shards_encoded": len(todo),
            "carried": sum(shard.carried for shard in done),
            "encoded": sum(shard.encoded for shard in done),
            "tokens_encoded": sum(shard.tokens for shard in done),
            "processor_seconds": round(sum(shard.seconds for shard in done), 3),
            "carried_from": self.carry.release.release_id if self.carry else None,
            "preprocessing": self.config.preprocessing,
            "precision": precision.model_dump(mode="json") if precision else {},
            "probe": probe.model_dump(mode="json") if probe else {},
            "workers_lost": self._pool.lost if self._pool else 0,
        }
        return StageReport(name="encode", rows=found.rows, metrics=metrics)

    def _stop(self) -> None:
        """End the workers: the stages after this one need their processors."""
        if self._pool:
            self._pool.stop()

    def _pending_shards(self) -> list[ShardTask]:
        every = shard_tasks(self.config, self.release, self._members)
        return [task for task in every if not self.release.completed_file(task.target)]

    @property
    def _members(self) -> str:
        """The folder for shards of members."""
        return MEMBERS if self.carry else NATIVE_MEMBERS

    def _workers(self) -> ElasticActorPool:
        """The actors of the job."""
        if self._pool is None:
            self._pool = ElasticActorPool(worker_spec(self.config, self.release, self.carry))
        return self._pool

    def _encode(self, todo: list[ShardTask]) -> list[ShardResult]:
        """Encode shards on the cluster; what came of each."""
        pool, done = self._workers(), []
        examined = self._examine(pool, len(todo))
        terms = (examined.precision, examined.probe.dim) if examined else (self._known_precision(), None)
        with Progress("encode", len(todo), "shards") as progress:
            for result in pool.run(self._batch_shards(todo, pool.limit()), *terms):
                done.append(result)
                progress.advance(result.shards, f"{result.rows:,} rows in the last")
        return done

    def _batch_shards(self, todo: list[ShardTask], workers: int) -> list[ShardTask | ShardBatch]:
        """What workers are given at once: a shard, or several where most members are carried, as many for each."""
        members = [task for task in todo if task.kind == "members"]
        if self.carry is None or len(members) <= workers:
            return list(todo)
        groups = workers * -(-len(members) // (workers * _MAX_SHARDS_PER_BATCH))
        ends = [len(members) * number // groups for number in range(groups + 1)]
        parts = [ShardBatch(tuple(members[start:end])) for start, end in pairwise(ends)]
        return [*(task for task in todo if task.kind != "members"), *parts]

    def _examine(self, pool: ElasticActorPool, shards: int) -> Examined | None:
        """The precision of the night and what the encoder is, journaled for a resumed one; None without histories."""
        found, sample = self._examined(), self._precision_sample()
        if found is None and sample:
            pool.submit("examine", Question(sample, self._known_precision()), tasks=shards)
            asked: Examined = pool.answer()
            found = asked
            self.release.storage.write(PRECISION, found.precision.model_dump_json().encode())
            self.release.storage.write(PROBE, found.probe.model_dump_json().encode())
            for note in found.probe.notes:
                _LOG.warning("%s: %s", self.config.encoder, note)
        return found

    def _examined(self) -> Examined | None:
        """What an interrupted night found; None where a worker has to be asked."""
        precision, probe = (
            _journaled_precision(self.release, PRECISION, PrecisionChoice),
            _journaled_precision(self.release, PROBE, Probe),
        )
        return Examined(precision, probe) if precision and probe else None

    def _known_precision(self) -> PrecisionChoice | None:
        """That of an interrupted night, else of what is carried; None where a worker has to judge it."""
        found = _journaled_precision(self.release, PRECISION, PrecisionChoice)
        if found is None and self.carry and self.carry.precision:
            found = PrecisionChoice.model_validate(self.carry.precision)
        return found

    def _precision_sample(self) -> str | None:
        """The histories on which the precision is judged."""
        return next(iter(self.release.storage.files("histories")), None)


def worker_spec(config: EncodeConfig, release: Release, carry: ReusableVectors | None) -> WorkerSpec:
    """The actors of the job: one processor each, and `gpus_per_worker`; a second shard is read meanwhile."""

    def make() -> Any:
        import ray

        options = {"num_cpus": 1, "num_gpus": config.gpus_per_worker, "max_concurrency": 2}
        return ray.remote(ShardWorker).options(**options).remote(config, release, carry, working_folder())

    return WorkerSpec(
        make,
        method="encode",
        name="encoding worker",
        resources={"CPU": 1.0, "GPU": config.gpus_per_worker},
        setting=f"encode.gpus_per_worker = {config.gpus_per_worker:g}" if config.gpus_per_worker else "",
        most=config.workers,
        label=_targets,
        load="ready",
        load_timeout_s=config.load_timeout_s,
        error=EncoderError,
        advice=f"look at memory, lower encode.batch_tokens; try the encoder {config.encoder} alone",
    )


def _targets(work: ShardTask | ShardBatch) -> str:
    """What a worker that died was to write."""
    return ", ".join(task.target for task in (work.tasks if isinstance(work, ShardBatch) else [work]))


class _EncodedShards:
    """The shards of vectors that are there."""

    def __init__(self, release: Release, members: str) -> None:
        folders = (f"{members}/", f"{NATIVE_TITLES}/")
        self.shards = [entry for entry in release.completed_files() if entry.path.startswith(folders)]
        self.rows = sum(entry.rows for entry in self.shards)
        self.members = sum(entry.rows for entry in self.shards if entry.path.startswith(folders[0]))
        titles = release.read_table(self.shards[-1].path, columns=[EMBEDDING])
        self.dim = titles.schema.field(EMBEDDING).type.list_size


def shard_tasks(config: EncodeConfig, release: Release, members: str = NATIVE_MEMBERS) -> list[ShardTask]:
    """Every shard of the night; titles first, then those in the folder of `members`, the largest files first."""
    catalogue = release.read_table(CATALOGUE, columns=[TITLE_ID]).num_rows
    titles = [
        ShardTask("titles", f"{NATIVE_TITLES}/part-{part:05d}.parquet", start=start)
        for part, start in enumerate(range(0, max(catalogue, 1), config.titles_per_shard))
    ]
    paths = sorted(release.storage.files("histories"), key=release.storage.size, reverse=True)
    return titles + [ShardTask("members", f"{members}/{path.rsplit('/', 1)[-1]}", path) for path in paths]


def _journaled_precision(release: Release, path: str, kind: type[Found]) -> Found | None:
    return kind.model_validate_json(release.storage.read(path)) if release.storage.exists(path) else None


def _collect_rejected_rows(config: EncodeConfig, release: Release, encoded: int) -> int:
    """Gather the refused rows of all shards into the dead letter; their number."""
    letters = list(release.batches("work/refused", dead_letter_schema().names))
    if not letters:
        return 0
    table = pa.concat_tables(letters)
    release.write_table("dead_letter/encode.parquet", table)
    share = table.num_rows / (table.num_rows + encoded)
    if share > config.max_bad_fraction:
        examples = ", ".join(
            f"{row['column']} {row['value']} ({row['reason']})" for row in table.slice(0, 5).to_pylist()
        )
        raise ContractError(
            f"the encoder failed on {table.num_rows:,} rows ({share:.2%}): {examples}",
            where=config.encoder,
            expected=f"at most {config.max_bad_fraction:.2%} (encode.max_bad_fraction)",
            fix="run the encoder on those rows alone; they are all in dead_letter/encode.parquet",
        )
    return int(table.num_rows)
