"""Encode: from Parquet histories to Parquet vectors, beside what the hardware needs and what a user would run instead.

- floor: the same model in the same precision, batches ready in memory, on every core; nothing read or written
- ray_data: `read_parquet → map_batches → write_parquet` with the same model, padded to the batch's longest, fp32
- dataloader: one process with a `torch.utils.data.DataLoader` over the same padded fp32 batches, some thousand members

All run on a Ray that is up before the clock starts; `ray_data` starts its workers within it. Ours start as in a night,
while the input is judged: what they cost there counts. `ours` is the gate of the input with the start of the workers
and the encode stage after it, less that gate alone (median of three processes, `quality.gate`); `stage` is what the
line of the night says. Jobs of several sizes are run (`quality.jobs`), since what is fixed decides the small ones; the
headline is the largest. `ray_data` and `ray_data_large` stand beside our smallest and largest job that it was given.
`quality` says how far the vectors are from those of the model's modules in fp32, and how much faster the forward is.

    python benchmarks/encode.py --size full
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ahead import by_itself, gate_alone
from staging import service, simulated, staged

from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig, TrainingConfig
from embeddings.foundation.encode import length_batches, padded_lengths
from embeddings.foundation.inference import LastPositionForward
from embeddings.foundation.sequences import TokenSequences
from pipeline.ray_cluster import RayConfig, ray_cluster
from stores.releases.release import Release
from stores.releases.workspace import Workspace

SIZES = {"small": (3_000,), "medium": (20_000, 60_000), "full": (20_000, 200_000, 2_000_000)}
"""Members of each job."""
PEER_MEMBERS = 200_000
"""Larger jobs are not given to Ray Data."""
SAMPLE = 4_000
PEER_BATCH, PEER_BLOCK = 512, 2048
"""Rows; left to itself Ray Data makes a small job one block, for one actor."""


class Padded:
    """Plain use of the model: a batch as it comes, padded to its longest, fp32."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        encoder = FoundationEncoder.load(folder)
        self.model, self.vocabulary = encoder._trained.model.eval(), encoder._trained.vocabulary

    @torch.no_grad()
    def vectors(self, histories: pa.Table) -> np.ndarray:
        """(n, dim) unit vectors."""
        tokens = TokenSequences.of(histories, self.vocabulary)
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
    """Seconds of Ray Data's plain pipeline over a folder.

    One actor for each core asks for half of it: where actors hold every core, the tasks that list, read and write files
    get none, and the pipeline waits for ever.
    """
    began, cores = time.perf_counter(), int(ray.cluster_resources()["CPU"])
    actors = {"fn_constructor_args": (model,), "concurrency": cores, "num_cpus": 0.5}
    data = ray.data.read_parquet(source).repartition(target_num_rows_per_block=PEER_BLOCK)
    data = data.map_batches(Padded, batch_format="pyarrow", batch_size=PEER_BATCH, **actors)
    data.write_parquet(target)
    return time.perf_counter() - began


def dataloader(histories: pa.Table, model: str) -> float:
    """Microseconds a member in one process with as many threads as cores."""
    padded = Padded(model)
    torch.set_num_threads(int(ray.cluster_resources()["CPU"]))
    began = time.perf_counter()
    starts = torch.utils.data.DataLoader(range(0, histories.num_rows, PEER_BATCH), batch_size=None)
    for start in starts:
        padded.vectors(histories.slice(int(start), PEER_BATCH))
    seconds = time.perf_counter() - began
    torch.set_num_threads(1)
    return seconds / histories.num_rows * 1e6


class Floor:
    """Prepared batches in memory, on one core."""

    def __init__(self, folder: str, histories: pa.Table, precision: str) -> None:
        torch.set_num_threads(1)
        encoder = FoundationEncoder.load(folder)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.inference = LastPositionForward(encoder._trained.model, dtype)
        tokens = TokenSequences.of(histories, encoder._trained.vocabulary)
        lengths = np.minimum(tokens.lengths + 1, self.inference.length)
        padded, first = padded_lengths(lengths, self.inference.length), tokens.starts[1:] - lengths
        self.batches = [
            self.inference.windows(tokens, first[rows], lengths[rows], int(padded[rows[0]]))
            for rows in length_batches(padded, self.inference.max_positions_per_batch)
        ]
        self.members = histories.num_rows

    def run(self, members: int) -> None:
        """Encode so many members, the batches again and again."""
        for _ in range(-(-members // self.members)):
            for batch in self.batches:
                self.inference.states(batch)


def floor(folder: str, histories: pa.Table, precision: str, members: int) -> float:
    """Microseconds a member on every core, from about so many members."""
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
    return seconds / (rounds * sample.num_rows * cores) * 1e6


def forward(folder: str, histories: pa.Table, precision: str) -> dict[str, float]:
    """How much faster the forward pass is than plain padded fp32 on one thread, and how near its vectors are."""
    torch.set_num_threads(1)
    plain, fast = Padded(folder), FoundationEncoder.load(folder).with_precision(precision, "cpu")
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


def job_of(release: Release, members: int, gate: float) -> dict[str, Any]:
    """Microseconds a member of ours on one job, and in which precision it ran."""
    found = by_itself(release.workspace_uri, release.release_id)
    return {
        "members": members,
        "ours": max(found["seconds"] - gate, found["stage"]) / members * 1e6,
        "stage": found["stage"] / members * 1e6,
        "tokens": found["metrics"]["tokens_encoded"],
        "precision": found["metrics"]["precision"]["name"],
    }


def given_to_ray_data(release: Release, model: str, row: dict[str, Any], target: Path) -> dict[str, Any]:
    """A job's row with what Ray Data takes, unless it is too large for it."""
    if row["members"] > PEER_MEMBERS:
        return row
    seconds = ray_data(str(release.storage.local("histories")), str(target), model)
    peer = seconds / row["members"] * 1e6
    return {**row, "ray_data": peer, "ratio_ray_data": peer / row["ours"]}


def measure(size: str, folder: Path) -> dict[str, Any]:
    """The whole table of one size."""
    few, catalogue = simulated(folder)
    config = FoundationConfig(training=TrainingConfig(min_steps=5, max_steps=5))
    model = train(few, catalogue, config, 0, Workspace.open(str(folder / "ws")).models.uri)
    sample = next(service(few, PEER_MEMBERS))
    uri, members = str(folder / "ws"), SIZES[size]
    releases = [staged(uri, str(i), service(few, n), catalogue, model.model_id) for i, n in enumerate(members)]
    gate = gate_alone(uri, releases[0].release_id)
    jobs = [job_of(release, n, gate) for release, n in zip(releases, members, strict=True)]
    with ray_cluster(RayConfig()):
        jobs = [
            given_to_ray_data(release, str(model.path), row, folder / f"out{row['members']}")
            for release, row in zip(releases, jobs, strict=True)
        ]
        precision = jobs[-1]["precision"]
        least = floor(str(model.path), sample, precision, min(SIZES[size][-1], PEER_MEMBERS))
        looped = dataloader(sample.slice(0, min(SAMPLE, SIZES[size][0])), str(model.path))
    for row in jobs:
        row["of_floor"] = least / row["ours"]
    ours, given = jobs[-1]["ours"], [row for row in jobs if "ray_data" in row]
    compared = {"ray_data": given[0], "ray_data_large": given[-1]}
    peers = {name: row["ray_data"] for name, row in compared.items()} | {"dataloader": looped}
    ratios = {name: row["ratio_ray_data"] for name, row in compared.items()} | {"dataloader": looped / ours}
    return {
        "stage": "encode",
        "size": size,
        "ours": ours,
        "floor": least,
        "peers": peers,
        "unit": "µs per member",
        "ratio_floor": least / ours,
        "ratios": ratios,
        "ratio_best_peer": min(ratios.values()),
        "quality": {**forward(str(model.path), sample, precision), "precision": precision, "gate": gate, "jobs": jobs},
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
        for row in found["quality"]["jobs"]:
            print("  ".join(f"{key} {value:,.2f}" for key, value in row.items() if not isinstance(value, str)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
