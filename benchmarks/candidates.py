"""Candidates for all members, k = 100, what a member has seen left out: us, the bare product, and FAISS Flat.

The floor is the float32 product of members and titles, in blocks that fit the cache, with nothing selected. It and
we run as the night's job does, in one process per core; `ready` is how long a worker takes to load its compiled loops,
which the night's job pays once and the speed leaves out. FAISS Flat uses all cores in one process, over-fetches by the
longest list of seen titles and drops them afterwards, as its users do. All have the fastest kernels that the processor
can run. Of three rounds of the floor and us in turn the one with the median ratio is told. A shared machine distorts
seconds of the clock more than seconds of the processor: both ratios are told.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from kernels import best_kernels

from retrieval import exact
from retrieval.filters import Filter

SIZES = {"small": (4000, 5000), "full": (200_000, 20_000)}
DIM, K, SEEN, BATCH, ROUNDS = 64, 100, 40, 4096, 3


def problem(members: int, titles: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Members (q, 64), titles (n, 64) and the rows each member has seen, close to the member's taste."""
    rng = np.random.default_rng(0)
    energy = np.linspace(1, 0.1, DIM)
    vectors = (rng.normal(size=(titles, DIM)) * energy).astype(np.float32)
    watched = rng.integers(0, titles, (members, SEEN))
    queries = (
        np.stack([vectors[rows].mean(axis=0) for rows in watched]) + 0.1 * rng.normal(size=(members, DIM)) * energy
    )
    return (
        queries.astype(np.float32),
        vectors,
        [np.unique(rows[: 5 + i % (SEEN - 5)]) for i, rows in enumerate(watched)],
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` gives, its seconds by the clock, and those of all processors."""
    began, busy = time.perf_counter(), time.process_time()
    done = work()
    return done, time.perf_counter() - began, time.process_time() - busy


def product(queries: np.ndarray, vectors: np.ndarray) -> None:
    """The floor: every score, in blocks of 1 MiB, into the same memory."""
    space = np.empty((256, 1024), dtype=np.float32)
    for start in range(0, len(queries), 256):
        part = queries[start : start + 256]
        for first in range(0, len(vectors), 1024):
            some = vectors[first : first + 1024]
            np.matmul(part, some.T, out=space.ravel()[: len(part) * len(some)].reshape(len(part), len(some)))


def ours(queries: np.ndarray, vectors: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rows (q, 100) as a worker of the job finds them."""
    titles = replace(exact.TitleVectors.of(vectors), compiled=True)
    starts = range(0, len(queries), BATCH)
    wanted = Filter(None, seen)
    return np.concatenate(
        [exact.top_k(titles, queries[s : s + BATCH], K, wanted.slice(slice(s, s + BATCH)))[0] for s in starts]
    )


def share(size: str, part: int, parts: int, kind: str, folder: str) -> tuple[float, float]:
    """One process's share of the work: its seconds by the clock and by the processor."""
    queries, vectors, seen = problem(*SIZES[size])
    mine = slice(part * len(queries) // parts, (part + 1) * len(queries) // parts)
    product(queries[:512], vectors)
    if kind == "ours":
        ready = timed(lambda: ours(queries[:512], vectors, seen[:512]))[1]
        (Path(folder) / f"{part}.seconds").write_text(str(ready))
    (Path(folder) / f"{kind}-{part}.ready").touch()
    while len(list(Path(folder).glob(f"{kind}-*.ready"))) < parts:
        time.sleep(0.001)
    if kind == "floor":
        return timed(lambda: product(queries[mine], vectors))[1:]
    rows, seconds, busy = timed(lambda: ours(queries[mine], vectors, seen[mine]))
    np.save(Path(folder) / f"rows-{part}.npy", rows)
    return seconds, busy


def in_processes(size: str, kind: str, folder: str) -> tuple[float, float]:
    """Seconds by the clock until the last process is done, and seconds of all processors."""
    parts = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(parts, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(share, size, part, parts, kind, folder) for part in range(parts)]
        done = [job.result() for job in jobs]
    return max(seconds for seconds, _ in done), sum(busy for _, busy in done)


def faiss_flat(index: Any, queries: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rows (q, 100) by over-fetching and dropping what was seen."""
    fetched = index.search(queries, K + max(map(len, seen)))[1]
    kept = [row[~np.isin(row, gone)][:K] for row, gone in zip(fetched, seen, strict=True)]
    return np.stack(kept)


def run(size: str) -> dict[str, Any]:
    """The benchmark's one result object; speeds are members per second."""
    members = SIZES[size][0]
    queries, vectors, seen = problem(*SIZES[size])
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    with tempfile.TemporaryDirectory() as folder:
        rounds = [in_processes(size, "floor", folder) + in_processes(size, "ours", folder) for _ in range(ROUNDS)]
        floor, floor_busy, mine, busy = sorted(rounds, key=lambda one: one[0] / one[2])[ROUNDS // 2]
        found = np.concatenate([np.load(path) for path in sorted(Path(folder).glob("rows-*.npy"))])
        ready = max(float(path.read_text()) for path in Path(folder).glob("*.seconds"))
    theirs, peer, peer_busy = timed(lambda: faiss_flat(flat, queries, seen))
    agree = float(np.mean(np.sort(found, axis=1) == np.sort(theirs, axis=1)))
    leaked = sum(len(np.intersect1d(row, gone)) for row, gone in zip(found, seen, strict=True))
    return {
        "stage": "candidates",
        "size": size,
        "ours": round(members / mine, 1),
        "floor": round(members / floor, 1),
        "peers": {"faiss_flat": round(members / peer, 1)},
        "unit": "members/s",
        "ratio_floor": round(floor / mine, 3),
        "ratios": {"faiss_flat": round(peer / mine, 2)},
        "ratio_best_peer": round(peer / mine, 2),
        "quality": {
            "agreement_with_faiss_flat": agree,
            "seen_titles_returned": leaked,
            "ready_s": round(ready, 2),
            "ratio_floor_by_processor": round(floor_busy / busy, 3),
            "ratio_faiss_flat_by_processor": round(peer_busy / busy, 2),
        },
    }


def main() -> None:
    """Run, print the table, and with --json the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    args = parser.parse_args()
    best_kernels()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started, not by this one
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    result = run(args.size)
    assert result["quality"]["seen_titles_returned"] == 0, "a seen title was returned"
    assert result["quality"]["agreement_with_faiss_flat"] > 0.99, "not the titles that FAISS Flat finds"
    for name, speed in (("samespace", result["ours"]), ("floor", result["floor"]), *result["peers"].items()):
        print(f"{name:12} {speed:12,.0f} members/s   {result['ours'] / speed:6.2f} x by samespace")
    by = result["quality"]
    print(f"by seconds of the processor: {by['ratio_floor_by_processor']} of the floor, ", end="")
    print(f"{by['ratio_faiss_flat_by_processor']} x faiss_flat")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
