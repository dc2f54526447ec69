"""What judging a night's vectors costs beside encoding them, and that its memory does not grow.

    python benchmarks/judging.py [--size small|full]

Two releases of made-up vectors (64 wide, 10,000 titles) are judged with every suite of `gate_vectors`;
the floor is reading the same shards once, the peer encoding as many members: our own model on
simulated histories, one core.
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.foundation import FoundationConfig, FoundationEncoder, train
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.release import Plan, Release, StageReport
from stores.schema import EMBEDDING, MEMBER_ID, TIMESTAMP_TYPE, TITLE_ID, member_vector_schema, title_vector_schema
from validation.checks import Expectation
from validation.config import GateConfig
from validation.gx_gate import judge
from validation.job import run_vectors
from validation.statistics import batches

SIZES = {"small": (20_000, 60_000), "full": (200_000, 2_000_000)}
WIDTH, TITLES, PER_SHARD = 64, 10_000, 20_000
NIGHT = datetime(2026, 7, 1, tzinfo=UTC)
IDS = pa.int64()


def vectors(seed: int, again: int, rows: int) -> pa.Array:
    """Vectors of one seed, moved a little by another."""
    x = np.random.default_rng(seed).normal(size=(rows, WIDTH))
    x = x + 0.1 * np.random.default_rng([seed, again]).normal(size=x.shape)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).ravel()), WIDTH)


def table(schema: pa.Schema, release: Release, given: dict[str, pa.Array]) -> pa.Table:
    """Rows of a schema; what is not given is null."""
    rows = len(given[EMBEDDING])
    given |= {
        "release_id": pa.array([release.release_id] * rows),
        "encoded_at": pa.array([NIGHT] * rows, TIMESTAMP_TYPE),
    }
    return pa.table([given.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)


def write_night(workspace: str, number: int, members: int, before: Release | None) -> Release:
    """A staged night with as many members; the first one is sealed."""
    release = Release(workspace, f"2026070{number + 1}T000000Z-0000")
    shards, previous = members // PER_SHARD, before.release_id if before else None
    facts = {"release_id": release.release_id, "plan_hash": "0", "lake": "", "model_id": f"m{number}", "space_id": "1"}
    moments = {"as_of": NIGHT, "created_at": NIGHT, "shards": shards, "config": {}}
    plan = Plan(**facts, **moments, reference_release=previous, previous_release=previous)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    for shard in range(shards):
        ids = pa.array(np.arange(PER_SHARD) * shards + shard)
        hashes = pa.array([f"{member:032x}" for member in range(shard * PER_SHARD, (shard + 1) * PER_SHARD)])
        known = {MEMBER_ID: ids, "history_hash": hashes}
        given = {**known, EMBEDDING: vectors(shard, number, PER_SHARD)}
        release.write_table(
            f"members/part-{shard:05d}.parquet", table(member_vector_schema(IDS, WIDTH), release, given)
        )
        release.write_table(f"histories/part-{shard:05d}.parquet", pa.table(known))
    titles = {TITLE_ID: pa.array(np.arange(TITLES)), "name": pa.array([f"Title {i}" for i in range(TITLES)])}
    given = {**titles, "plays": pa.array(np.arange(TITLES)), EMBEDDING: vectors(-1 % 2**32, number, TITLES)}
    release.write_table("titles/part-00000.parquet", table(title_vector_schema(IDS, WIDTH), release, given))
    release.write_table("work/catalogue.parquet", pa.table(titles))
    aligned = {"outcome": "same_space", "opened": before is None, "space_id": "1", "width": WIDTH}
    report = release.run_stage("align", lambda: StageReport(name="align", metrics=aligned))
    if before is None:
        release.seal([], [report], {})
    return release


def judged(members: int, folder: str) -> tuple[float, float]:
    """CPU seconds of judging a night of so many members, and of reading its shards once."""
    second = write_night(folder, 1, members, write_night(folder, 0, members, None))
    began = time.process_time()
    for path in second.storage.files("members"):
        for _ in batches(second.storage, path, [MEMBER_ID, EMBEDDING]):
            pass
    read = time.process_time() - began
    began = time.process_time()
    run_vectors(GateConfig(), second)
    return time.process_time() - began, read


def encoded(folder: str) -> tuple[float, float]:
    """CPU seconds per member of our own encoder, and the tokens of a history."""
    simulate(f"{folder}/lake", SimulationConfig(members=3_000, titles=1_000, days=60, seed=1))
    histories, catalogue = read_histories(Lake.open(f"{folder}/lake"), datetime.now(UTC), HistoriesConfig())
    brief = FoundationConfig.model_validate({"training": {"min_steps": 2, "max_steps": 2}})
    encoder = FoundationEncoder.load(train(histories, catalogue, brief, 0, f"{folder}/models").path)
    began = time.process_time()
    encoder.encode_members(histories)
    spent = time.process_time() - began
    return spent / len(histories), sum(map(len, histories[TITLE_ID].to_pylist())) / len(histories)


def measure(size: str, folder: str) -> dict[str, Any]:
    """The benchmark's one result object; seconds of the processor, of the largest number of members."""
    # Great Expectations takes seconds to import, once a night, whatever its size.
    judge("warm", {"suite": ({"x": 1}, [Expectation(name="warm", column="x")])})
    (each, tokens), found = encoded(folder), []
    for members in SIZES[size]:
        place = str(Path(folder) / str(members))
        spent, read = judged(members, place)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found.append({"members": members, "judging": spent, "reading": read, "peak_mb": peak})
        shutil.rmtree(place)
    last, encoding = found[-1], each * found[-1]["members"]
    return {
        "stage": "judging",
        "size": size,
        "ours": last["judging"],
        "floor": last["reading"],
        "peers": {"encoding": encoding},
        "unit": f"s of the processor, {last['members']:,} members",
        "ratio_floor": last["reading"] / last["judging"],
        "ratios": {"encoding": encoding / last["judging"]},
        "ratio_best_peer": encoding / last["judging"],
        "quality": {
            "share_of_encoding": last["judging"] / encoding,
            "tokens_of_a_member": tokens,
            "memory_ratio": last["peak_mb"] / found[0]["peak_mb"],
            "sizes": found,
        },
    }


def main() -> None:
    """Print one line for each size and, with --json, the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args.size, folder)
    for row in result["quality"]["sizes"]:
        times, judging = row["judging"] / row["reading"], f"judging {row['judging']:6.2f} s of CPU"
        print(f"{row['members']:>9,} members: {judging} ({times:.1f} x reading once), peak {row['peak_mb']:,.0f} MB")
    print(f"{result['quality']['share_of_encoding']:.2%} of encoding the last")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
