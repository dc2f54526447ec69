"""The Ray job that runs a trained model over all titles and all members.

The shard is the unit of work, of resume and of output: a worker reads one shard of histories,
encodes it and writes one shard of native vectors. Nothing but a shard's path and its entry travels.
"""

import pyarrow as pa
import ray

from embeddings.carry import Carry, carried_from
from embeddings.encode_config import EncodeConfig
from embeddings.precision import Precision
from embeddings.spreading import Spread
from embeddings.worker import CATALOGUE, Done, ShardWorker, Task, load_model
from stores.columns import TITLE_ID, dead_letter_schema
from stores.errors import ContractError
from stores.progress import Progress
from stores.release import Release, StageReport

__all__ = ["NATIVE_MEMBERS", "NATIVE_TITLES", "load_model", "run"]

NATIVE_MEMBERS = "work/native/members"
NATIVE_TITLES = "work/native/titles"
PRECISION = "work/precision.json"


def run(config: EncodeConfig, release: Release, carry: Carry | None = None) -> StageReport:
    """Encode titles and members into native vectors; finished shards are not redone.

    With a `carry` that fits, members whose history did not change are carried forward from it; titles
    never are. Raises EncoderError where the model cannot be loaded, ContractError where it fails on too many rows.
    """
    todo = [task for task in tasks(config, release) if not release.finished(task.target)]
    carry = carried_from(config, carry, release)
    done, precision, lost = _encode_all(config, release, carry, todo) if todo else ([], _journaled(release), 0)
    shards = [entry for entry in release.entries() if entry.path.startswith((NATIVE_MEMBERS, NATIVE_TITLES))]
    members = sum(entry.rows for entry in shards if entry.path.startswith(NATIVE_MEMBERS))
    rows = sum(entry.rows for entry in shards)
    refused = _collect_refusals(config, release, rows)
    metrics = {
        "members": members,
        "titles": rows - members,
        "dim": release.storage.read_table(shards[0].path).schema.field("embedding").type.list_size,
        "refused": refused,
        "shards": len(shards),
        "shards_encoded": len(todo),
        "carried": sum(shard.carried for shard in done),
        "encoded": sum(shard.encoded for shard in done),
        "tokens_encoded": sum(shard.tokens for shard in done),
        "processor_seconds": round(sum(shard.seconds for shard in done), 3),
        "carried_from": carry.release.release_id if carry else None,
        "preprocessing": config.preprocessing,
        "precision": precision.model_dump(mode="json") if precision else {},
        "workers_lost": lost,
    }
    return StageReport(name="encode", rows=rows, metrics=metrics)


def tasks(config: EncodeConfig, release: Release) -> list[Task]:
    """Every shard of the night; titles first, then members, the largest files first."""
    catalogue = release.storage.read_table(CATALOGUE, columns=[TITLE_ID]).num_rows
    titles = [
        Task("titles", f"{NATIVE_TITLES}/part-{part:05d}.parquet", start=start)
        for part, start in enumerate(range(0, max(catalogue, 1), config.titles_per_shard))
    ]
    paths = sorted(release.storage.files("histories"), key=release.storage.size, reverse=True)
    return titles + [Task("members", f"{NATIVE_MEMBERS}/{path.rsplit('/', 1)[-1]}", path) for path in paths]


def _encode_all(
    config: EncodeConfig, release: Release, carry: Carry | None, todo: list[Task]
) -> tuple[list[Done], Precision | None, int]:
    """Encode shards on the cluster; what came of each, in which precision, and how many workers died."""
    resource = "GPU" if config.gpus_per_worker else "CPU"
    share = config.gpus_per_worker or 1.0
    options = {"num_cpus": 1, "num_gpus": config.gpus_per_worker, "max_concurrency": 2}
    worker = ray.remote(ShardWorker).options(**options)

    def wanted() -> int:
        return config.workers or max(1, int(ray.cluster_resources().get(resource, 1.0) / share))

    spread = Spread(lambda: worker.remote(config, release, carry), wanted)
    try:
        precision = _precision(spread, release, carry, len(todo))
        done = []
        with Progress("encode", len(todo), "shards") as progress:
            for result in spread.run(todo, precision):
                done.append(result)
                progress.advance(1, f"{result.rows:,} rows in the last")
    finally:
        spread.stop()
    return done, precision, spread.lost


def _precision(spread: Spread, release: Release, carry: Carry | None, shards: int) -> Precision | None:
    """The precision of the night, journaled for a resumed one: that of what is carried, else judged by a worker."""
    histories = release.storage.files("histories")
    found = _journaled(release)
    if found is None and carry and carry.precision:
        found = Precision.model_validate(carry.precision)
    if found is None and histories:
        found = spread.ask("choose_precision", histories[0], shards)
    if found is not None:
        release.storage.write(PRECISION, found.model_dump_json().encode())
    return found


def _journaled(release: Release) -> Precision | None:
    there = release.storage.exists(PRECISION)
    return Precision.model_validate_json(release.storage.read(PRECISION)) if there else None


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
