"""The Ray job that runs a trained model over all titles and all members.

The shard is the unit of work, of resume and of output: a worker reads one shard of histories,
encodes it and writes one shard of native vectors. Nothing but a shard's path and its entry travels.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.util import ActorPool

from embeddings.bisection import Refusal, Vectors, encode_rows
from embeddings.encode_config import EncodeConfig
from embeddings.encoder import Encoder, load
from stores.columns import (
    ENCODED_AT,
    MEMBER_ID,
    RELEASE_ID,
    TIME,
    TITLE_ID,
    dead_letter_schema,
    member_vector_schema,
    title_vector_schema,
)
from stores.errors import ContractError, EncoderError, MismatchError
from stores.progress import Progress
from stores.release import Release, StageReport
from stores.workspace import Workspace

NATIVE_MEMBERS = "work/native/members"
NATIVE_TITLES = "work/native/titles"


def run(config: EncodeConfig, release: Release) -> StageReport:
    """Encode every title and member into native vectors; finished shards are not redone.

    Raises EncoderError where the model cannot be loaded, ContractError where it fails on too many rows.
    """
    todo = [task for task in _tasks(config, release) if not release.finished(task["target"])]
    encoded = len(todo)
    if todo:
        _encode_all(config, release, todo)
    shards = [entry for entry in release.entries() if entry.path.startswith((NATIVE_MEMBERS, NATIVE_TITLES))]
    members = sum(entry.rows for entry in shards if entry.path.startswith(NATIVE_MEMBERS))
    rows = sum(entry.rows for entry in shards)
    refused = _collect_refusals(config, release, rows)
    dim = release.storage.read_table(shards[0].path).schema.field("embedding").type.list_size
    metrics = {
        "members": members,
        "titles": rows - members,
        "dim": dim,
        "refused": refused,
        "shards": len(shards),
        "shards_encoded": encoded,
    }
    return StageReport(name="encode", rows=rows, metrics=metrics)


def _tasks(config: EncodeConfig, release: Release) -> list[dict[str, Any]]:
    catalogue = release.storage.read_table("work/catalogue.parquet", columns=[TITLE_ID]).num_rows
    starts = range(0, max(catalogue, 1), config.titles_per_shard)
    titles = [
        {"kind": "titles", "target": f"{NATIVE_TITLES}/part-{part:05d}.parquet", "start": start}
        for part, start in enumerate(starts)
    ]
    members = [
        {"kind": "members", "target": f"{NATIVE_MEMBERS}/{path.rsplit('/', 1)[-1]}", "source": path}
        for path in release.storage.files("histories")
    ]
    return titles + members


def _encode_all(config: EncodeConfig, release: Release, tasks: list[dict[str, Any]]) -> None:
    resource = "GPU" if config.gpus_per_worker else "CPU"
    share = config.gpus_per_worker or 1.0
    count = config.workers or max(1, int(ray.cluster_resources().get(resource, 1.0) / share))
    options = {"num_cpus": 1, "num_gpus": config.gpus_per_worker, "max_restarts": 3, "max_task_retries": 3}
    worker = ray.remote(ShardWorker).options(**options)
    workers = [worker.remote(config, release) for _ in range(min(count, len(tasks)))]
    try:
        ray.get(workers[0].ready.remote())
        pool = ActorPool(workers)
        with Progress("encode", len(tasks), "shards") as progress:
            for rows in pool.map_unordered(lambda actor, task: actor.encode.remote(task), tasks):
                progress.advance(1, f"{rows:,} rows in the last")
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise EncoderError(
            f"the encoding workers keep dying: {error}", fix="look at memory; lower encode.batch_size"
        ) from error
    finally:
        for actor in workers:
            ray.kill(actor)


def load_model(config: EncodeConfig, workspace: Workspace, model_id: str | None) -> Encoder:
    """The configured encoder with `config.model`, else with the workspace's model of that id, if it has one."""
    kept = model_id in workspace.models.folders()
    return load(config.encoder, config.model or (str(workspace.models.fetch(str(model_id))) if kept else ""))


class ShardWorker:
    """Holds one copy of the model and encodes one shard after the other."""

    def __init__(self, config: EncodeConfig, release: Release) -> None:
        self.config, self.release = config, release
        self.encoder: Any = None

    def ready(self) -> int:
        """Load the model, so that one that cannot be loaded is reported once; the width of its vectors.

        Raises MismatchError where it is not the model that the night was planned with.
        """
        if self.encoder is None:
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

    def encode(self, task: dict[str, Any]) -> int:
        """Encode one shard and write it; the number of rows written."""
        self.ready()
        rows, vectors, refused = self._titles(task) if task["kind"] == "titles" else self._members(task)
        target = task["target"]
        if refused:
            letter = _dead_letter(task["kind"], rows, refused)
            self.release.write_table(f"work/refused/{target.removeprefix('work/native/')}", letter)
        keep = np.ones(rows.num_rows, bool)
        keep[[position for position, _ in refused]] = False
        table = _with_vectors(rows, vectors, task["kind"], self.release).filter(pa.array(keep))
        return self.release.write_table(target, table).rows

    def _members(self, task: dict[str, Any]) -> tuple[pa.Table, Vectors, list[Refusal]]:
        histories = self.release.storage.read_table(task["source"])
        return histories, *self._batched(self.encoder.encode_members, histories)

    def _titles(self, task: dict[str, Any]) -> tuple[pa.Table, Vectors, list[Refusal]]:
        catalogue = self.release.storage.read_table("work/catalogue.parquet")
        shard = catalogue.slice(task["start"], self.config.titles_per_shard)
        return shard, *self._batched(self.encoder.encode_titles, shard)

    def _batched(self, encode: Any, rows: pa.Table) -> tuple[Vectors, list[Refusal]]:
        dim, size = self.encoder.dim, self.config.batch_size
        parts, refused = [np.zeros((0, dim), np.float32)], []
        for start in range(0, rows.num_rows, size):
            vectors, bad = encode_rows(encode, rows.slice(start, size), dim)
            parts.append(vectors)
            refused += [(start + position, reason) for position, reason in bad]
        return np.concatenate(parts), refused


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


def _collect_refusals(config: EncodeConfig, release: Release, encoded: int) -> int:
    """Gather the refused rows of all shards into the dead letter; their number."""
    letters = list(release.storage.batches("work/refused", dead_letter_schema().names))
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
