"""Alignment of all members, 64 wide: fit and apply, streamed from Parquet to Parquet, and the same in memory.

The floor reads each shard, multiplies it by one float32 matrix and writes it, in the same format; ours first reads
what the second moments need (all members up to a million), works in float64, hashes what it writes and syncs it.
The peers hold the whole matrix in memory and never touch the disk; they are compared with our arithmetic on the same
matrix in memory: `numpy_qr` is the textbook route to the same canonical basis, QR of both sides and the SVD of
R_W R_Tᵀ; `scipy` is `orthogonal_procrustes` on all members and one product, which undoes a rotation only.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.linalg import orthogonal_procrustes

sys.path[0] = str(Path(__file__).resolve().parents[1])  # or `import alignment` would find this script

from alignment import AlignmentConfig, AlignmentTransform, Anchors, Gram, fit  # noqa: E402
from alignment.reference import (  # noqa: E402
    sample_shards,
    to_column,
    to_matrix,
)
from alignment.shard_tasks import apply_to_shard, gram_of_shard  # noqa: E402
from stores.files.parquet import parquet_bytes  # noqa: E402
from stores.releases.release import Release  # noqa: E402
from stores.schema import TIMESTAMP_TYPE, member_vector_schema  # noqa: E402

DIM, TITLES, SHARD = 64, 20_000, 50_000
SIZES = {"small": 200_000, "full": 5_000_000}
ROUNDS = {"small": 2, "full": 2}
PEERS = ("numpy_qr", "scipy")
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
Rows = np.ndarray[Any, np.dtype[np.float32]]


def problem(folder: str, members: int) -> tuple[Release, Rows, Anchors]:
    """A staged release with native shards of members; its titles (20k, 64), and these as anchors of a space."""
    rng = np.random.default_rng(0)
    energy, turn = np.geomspace(2, 0.05, DIM), np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    titles = (rng.normal(size=(TITLES, DIM)) * energy @ turn).astype(np.float32)
    release = Release(folder, "20260101T000000Z-abcd")
    for start in range(0, members, SHARD):
        rows = np.arange(start, min(start + SHARD, members))
        vectors = rng.normal(size=(len(rows), DIM)).astype(np.float32) * (energy @ turn).astype(np.float32)
        release.write_table(f"work/native/members/part-{start // SHARD:05d}.parquet", shard_table(rows, vectors))
    sample = Gram.of(to_matrix(release.storage.read_table(paths(release)[0])))
    return release, titles, Anchors(titles, fit(sample, Gram.of(titles)).titles(titles))


def shard_table(ids: np.ndarray[Any, Any], vectors: Rows) -> pa.Table:
    """One shard as the encode stage writes it."""
    when, name = pa.array([WHEN] * len(ids), TIMESTAMP_TYPE), pa.array([""] * len(ids))
    length = pa.array(np.full(len(ids), 50), pa.int32())
    columns = [pa.array(ids), to_column(vectors), when, name, length, name, when]
    return pa.table(columns, schema=member_vector_schema(pa.int64(), DIM))


def paths(release: Release) -> list[str]:
    """The native shards."""
    return release.storage.files("work/native/members")


def in_turn(work: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What each work gives, and its best seconds over some rounds in which they take turns, each from a synced disk.

    Else whoever syncs what it wrote would wait for what the one before it wrote.
    """
    found, best = {}, dict.fromkeys(work, np.inf)
    for _ in range(rounds):
        for name, do in work.items():
            os.sync()
            began = time.perf_counter()
            found[name] = do()
            best[name] = min(best[name], time.perf_counter() - began)
    return found, best


def floor(release: Release, matrix: Rows) -> None:
    """Read, multiply, write: nothing else."""
    for path in paths(release):
        table = release.storage.read_table(path)
        product = to_column(to_matrix(table) @ matrix)
        target = release.storage.local(f"floor/{Path(path).name}")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(parquet_bytes(table.set_column(1, "embedding", product)))


def ours(release: Release, titles: Rows, anchors: Anchors) -> AlignmentTransform:
    """Moments of every shard, the fit, and the pass that applies it."""
    release.storage.delete_tree("members")  # of the round before, or it would not be redone
    rows = SHARD * len(paths(release))
    sampled = sample_shards(paths(release), rows, AlignmentConfig().moment_members)
    gram = reduce(add, (gram_of_shard(release, path, "members", 5) for path in sampled))
    transform = fit(gram, Gram.of(titles), anchors)
    for path in paths(release):
        apply_to_shard(release, path, "members", transform)
    return transform


def ours_in_memory(members: Rows, titles: Rows, anchors: Anchors) -> tuple[Rows, Rows]:
    """The same arithmetic on arrays."""
    transform = fit(Gram.of(members), Gram.of(titles), anchors)
    return transform.members(members), transform.titles(titles)


def numpy_qr(members: Rows, titles: Rows, anchors: Anchors) -> tuple[Rows, Rows]:
    """W = Q_W R_W, T = Q_T R_T, R_W R_Tᵀ = U Σ Vᵀ; then W' = √n Q_W U √(Σ/√(nm)), likewise T', and Procrustes."""
    (Q_W, R_W), (Q_T, R_T) = np.linalg.qr(members), np.linalg.qr(titles)
    U, sigma, Vt = np.linalg.svd(R_W @ R_T.T)
    root = np.sqrt(sigma)
    balance = np.float32((len(members) / len(titles)) ** 0.25)
    W, T = Q_W @ (U * root * balance), Q_T @ (Vt.T * root / balance)
    Q, _ = orthogonal_procrustes(T, anchors.reference)
    return W @ Q, T @ Q


def scipy(members: Rows, titles: Rows, _: Anchors) -> tuple[Rows, Rows]:
    """Procrustes of as many rows as there are members onto some reference, and the product."""
    Q, _ = orthogonal_procrustes(members, members[::-1])
    return members @ Q, titles


def run(size: str) -> dict[str, Any]:
    """The benchmark's one result object; speeds are members per second, best of the rounds."""
    count, rounds = SIZES[size], ROUNDS[size]
    with tempfile.TemporaryDirectory() as folder:
        release, titles, anchors = problem(folder, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bare, streamed = partial(floor, release, np.eye(DIM, dtype=np.float32)), partial(ours, release, titles, anchors)
        on_disk, seconds = in_turn({"floor": bare, "ours": streamed}, rounds)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        members = np.concatenate([to_matrix(release.storage.read_table(p, ["embedding"])) for p in paths(release)])
    arrays = (members, titles, anchors)
    routes = {route.__name__: partial(route, *arrays) for route in (ours_in_memory, numpy_qr, scipy)}
    in_memory, more = in_turn(routes, rounds)
    speed = {name: round(count / best, 1) for name, best in {**seconds, **more}.items()}
    ratios = {peer: round(speed["ours_in_memory"] / speed[peer], 2) for peer in PEERS}
    return {
        "stage": "alignment",
        "size": size,
        "ours": speed["ours"],
        "ours_in_memory": speed["ours_in_memory"],
        "floor": speed["floor"],
        "peers": {peer: speed[peer] for peer in PEERS},
        "unit": "members/s",
        "ratio_floor": round(speed["ours"] / speed["floor"], 3),
        "ratios": ratios,
        "ratio_best_peer": min(ratios.values()),
        "quality": quality(members, titles, in_memory, on_disk["ours"]) | {"peak_memory_grown_mb": grown // 1024},
    }


def quality(members: Rows, titles: Rows, found: dict[str, Any], transform: AlignmentTransform) -> dict[str, float]:
    """Largest change of a score, relative to the largest one, by each route that keeps scores at all."""
    exact = members[:1000].astype(np.float64) @ titles.astype(np.float64).T
    errors = {
        f"score_error_{name}": float(np.abs(W[:1000] @ T.T - exact).max() / np.abs(exact).max())
        for name, (W, T) in found.items()
        if name != "scipy"
    }
    inverse = float(np.abs(transform.member_map @ transform.title_map.T - np.eye(DIM)).max())
    return errors | {"maps_are_inverse": inverse}


def main() -> None:
    """Run, print the table, and with --json the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    args = parser.parse_args()
    if os.environ.pop("OPENBLAS_CORETYPE", None):  # it would handicap the peers, and is read when NumPy is loaded
        os.execv(sys.executable, [sys.executable, *sys.argv])
    result = run(args.size)
    assert result["quality"]["score_error_ours_in_memory"] < 1e-5, "the scores changed"
    for name in ("ours", "floor", "ours_in_memory"):
        print(f"{name:16} {result[name]:14,.0f} members/s")
    for name, speed in result["peers"].items():
        print(f"{name:16} {speed:14,.0f} members/s   in memory {result['ratios'][name]:6.2f} x by samespace")
    print(f"streamed, of the floor: {result['ratio_floor']:.2f}; quality: {result['quality']}")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
