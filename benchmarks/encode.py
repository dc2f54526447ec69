"""Encode: from Parquet histories to Parquet vectors, beside what the hardware needs and what a user would run instead.

- floor: the same model in the same precision, batches ready in memory, on every core; nothing read or written
- ray_data: `read_parquet → map_batches → write_parquet` with the same model, padded to the batch's longest, fp32
- dataloader: one process with a `torch.utils.data.DataLoader` over the same padded fp32 batches

All run on one Ray that is up before the clock starts; ours and `ray_data` start their workers within it. The two
peers may be run on fewer members than ours (`peer_members`): they are compared by members a second. `quality` says
how far the vectors are from those of the modules of the model in fp32, and how much faster the forward pass alone is.

    python benchmarks/encode.py --size full
"""

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from embeddings import job
from embeddings.encode_config import EncodeConfig
from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig, TrainingConfig
from embeddings.foundation.encoding import batches_of, padded_lengths
from embeddings.foundation.inference import Inference
from embeddings.foundation.tokens import Tokens
from embeddings.histories import HistoriesConfig, read_histories
from embeddings.shards import shards_for
from pipeline.cluster import RayConfig, cluster
from stores.lake.contract import Lake
from stores.lake.simulate import SimulationConfig, simulate
from stores.release import Plan, Release
from stores.storage import parquet_bytes
from stores.workspace import Workspace

SIZES = {"small": (4_000, 2_000), "medium": (20_000, 20_000), "full": (200_000, 20_000)}
"""Members for us and for the peers."""
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
PEER_BATCH = 512


def simulated(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Histories and catalogue of a simulated service of two thousand members."""
    simulate(str(folder / "lake"), SimulationConfig(members=2000, titles=2000, days=60))
    found: tuple[pa.Table, pa.Table] = read_histories(Lake.open(str(folder / "lake")), WHEN, HistoriesConfig(), None)
    return found


def grown(histories: pa.Table, members: int) -> pa.Table:
    """As many members, each with the history of one of those given."""
    rows = histories.take(np.random.default_rng(0).integers(0, histories.num_rows, members))
    return rows.set_column(0, "member_id", pa.array(np.arange(members), rows.schema.field(0).type))


def staged(uri: str, name: str, histories: pa.Table, catalogue: pa.Table, model_id: str) -> Release:
    """A release with everything that comes before the encode stage."""
    shards = shards_for(histories.num_rows)
    plan = Plan(
        release_id=f"20260101T00000{name}Z-abcd",
        plan_hash="",
        lake="",
        as_of=WHEN,
        created_at=WHEN,
        model_id=model_id,
        space_id="1",
        reference_release=None,
        previous_release=None,
        shards=shards,
        config={},
    )
    release = Release(uri, plan.release_id)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    release.write_table("work/catalogue.parquet", catalogue)
    size = -(-histories.num_rows // shards)
    for shard in range(shards):
        release.write_table(f"histories/part-{shard:05d}.parquet", histories.slice(shard * size, size))
    return release


class Padded:
    """Plain use of the model: a batch as it comes, padded to its longest, fp32."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        encoder = FoundationEncoder.load(folder)
        self.model, self.vocabulary = encoder._trained.model.eval(), encoder._trained.vocabulary

    @torch.no_grad()
    def vectors(self, histories: pa.Table) -> np.ndarray:
        """(n, dim) unit vectors."""
        tokens = Tokens.of(histories, self.vocabulary)
        lengths = np.minimum(tokens.lengths + 1, self.model.length)
        batch = tokens.windows(tokens.starts[1:] - lengths, lengths)
        last = torch.from_numpy(lengths - 1)
        drop = torch.arange(batch.titles.shape[1])[None, :] >= last[:, None]
        states = self.model.members(batch, self.model.known_titles()[0], batch.titles, drop)
        return self.model.vectors(states[torch.arange(len(last)), last]).numpy()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """What Ray Data maps over batches."""
        flat = pa.array(self.vectors(batch).ravel())
        return pa.table(
            {
                "member_id": batch["member_id"],
                "embedding": pa.FixedSizeListArray.from_arrays(flat, self.model.tower.ids.embedding_dim),
            }
        )


def ray_data(source: str, target: str, model: str) -> float:
    """Seconds of Ray Data's plain pipeline."""
    began = time.perf_counter()
    data = ray.data.read_parquet(source)
    cores = int(ray.cluster_resources()["CPU"])
    data.map_batches(
        Padded, fn_constructor_args=(model,), batch_format="pyarrow", batch_size=PEER_BATCH, concurrency=cores
    ).write_parquet(target)
    return time.perf_counter() - began


def dataloader(histories: pa.Table, model: str) -> float:
    """Seconds of one process with as many threads as cores."""
    padded = Padded(model)
    torch.set_num_threads(int(ray.cluster_resources()["CPU"]))
    began = time.perf_counter()
    starts = torch.utils.data.DataLoader(range(0, histories.num_rows, PEER_BATCH), batch_size=None)
    for start in starts:
        padded.vectors(histories.slice(int(start), PEER_BATCH))
    seconds = time.perf_counter() - began
    torch.set_num_threads(1)
    return seconds


class Floor:
    """Prepared batches in memory, on one core."""

    def __init__(self, folder: str, histories: pa.Table, precision: str) -> None:
        torch.set_num_threads(1)
        encoder = FoundationEncoder.load(folder)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.inference = Inference(encoder._trained.model, dtype)
        tokens = Tokens.of(histories, encoder._trained.vocabulary)
        lengths = np.minimum(tokens.lengths + 1, self.inference.length)
        padded, codes = padded_lengths(lengths, self.inference.length), self.inference.codes_of(tokens)
        first = tokens.starts[1:] - lengths
        self.batches = [
            self.inference.windows(tokens, codes, first[rows], lengths[rows], int(padded[rows[0]]))
            for rows in batches_of(padded, self.inference.budget)
        ]
        self.members = histories.num_rows

    def run(self, members: int) -> None:
        """Encode so many members, the batches again and again."""
        for _ in range(-(-members // self.members)):
            for batch in self.batches:
                self.inference.states(batch)


def floor(folder: str, histories: pa.Table, precision: str, members: int) -> float:
    """Seconds on every core."""
    cores = int(ray.cluster_resources()["CPU"])
    sample = histories.slice(0, min(10_000, members // cores))
    rounds = max(1, members // cores // sample.num_rows)
    workers = [ray.remote(Floor).options(num_cpus=1).remote(folder, sample, precision) for _ in range(cores)]
    ray.get([worker.run.remote(1) for worker in workers])
    began = time.perf_counter()
    ray.get([worker.run.remote(rounds * sample.num_rows) for worker in workers])
    seconds = time.perf_counter() - began
    for worker in workers:
        ray.kill(worker)
    return seconds * members / (rounds * sample.num_rows * cores)


def forward(folder: str, histories: pa.Table, precision: str) -> dict[str, float]:
    """How much faster the forward pass is than plain padded fp32 on one thread, and how near its vectors are."""
    torch.set_num_threads(1)
    plain, fast = Padded(folder), FoundationEncoder.load(folder).tuned(precision, "cpu")
    sample = histories.slice(0, 1024)
    seconds = {}
    for name, encode in (("plain", plain.vectors), ("fast", fast.encode_members)):
        encode(sample)
        runs = []
        for _ in range(3):
            began = time.process_time()
            encode(sample)
            runs.append(time.process_time() - began)
        seconds[name] = min(runs)
    exact, found = plain.vectors(sample), fast.encode_members(sample)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    titles = plain.model.known_titles()[1].detach().numpy()
    tops = [np.argsort(-(rows @ titles.T), axis=1)[:, :10] for rows in (exact, found)]
    overlap = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(*tops, strict=True)])
    return {
        "forward_ratio": seconds["plain"] / seconds["fast"],
        "cosine_min": float((exact * found).sum(axis=1).min()),
        "top10_overlap": float(overlap),
    }


def measure(size: str, folder: Path) -> dict[str, Any]:
    """The whole table of one size."""
    members, peer_members = SIZES[size]
    uri = str(folder / "ws")
    few, catalogue = simulated(folder)
    config = FoundationConfig(training=TrainingConfig(min_steps=5, max_steps=5))
    model = train(few, catalogue, config, 0, Workspace.open(uri).models.uri)
    histories = grown(few, members)
    release = staged(uri, "1", histories, catalogue, model.model_id)
    report, seconds = None, 0.0
    with cluster(RayConfig()):
        began = time.perf_counter()
        report = job.run(EncodeConfig(), release)
        seconds = time.perf_counter() - began
        precision = report.metrics["precision"]["name"]
        fastest = floor(str(model.path), histories, precision, members)
        part = histories.slice(0, peer_members)
        (folder / "part").mkdir()
        for at in range(0, peer_members, 5_000):
            (folder / "part" / f"{at}.parquet").write_bytes(parquet_bytes(part.slice(at, 5_000)))
        peers = {"ray_data": ray_data(str(folder / "part"), str(folder / "out"), str(model.path))}
        peers["dataloader"] = (
            dataloader(part.slice(0, 4_000), str(model.path)) * peer_members / min(4_000, peer_members)
        )
    ours = seconds / members * 1e6
    values = {name: took / peer_members * 1e6 for name, took in peers.items()}
    ratios = {name: value / ours for name, value in values.items()}
    return {
        "stage": "encode",
        "size": size,
        "ours": ours,
        "floor": fastest / members * 1e6,
        "peers": values,
        "unit": "µs per member",
        "ratio_floor": fastest / seconds,
        "ratios": ratios,
        "ratio_best_peer": min(ratios.values()),
        "quality": {
            **forward(str(model.path), histories, precision),
            "members": members,
            "peer_members": peer_members,
            "tokens": report.metrics["tokens_encoded"],
            "precision": precision,
            "seconds": seconds,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.size, Path(folder))
    if not args.json:
        for name in ("ours", "floor"):
            print(f"{name:<12} {found[name]:10.1f} {found['unit']}")
        for name, value in found["peers"].items():
            print(f"{name:<12} {value:10.1f} {found['unit']}   ours is {found['ratios'][name]:.2f} times as fast")
        print(f"of the floor {found['ratio_floor']:.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
