"""Candidates for all members, k = 100, what a member has seen left out: us, the bare product, and FAISS Flat.

The floor is the float32 product of members and titles, in blocks that fit the cache, with nothing
selected. FAISS Flat over-fetches by the longest list of seen titles and drops them afterwards, as its users do.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from retrieval import TitleIndex

SIZES = {"small": (4000, 5000), "full": (200_000, 20_000)}
DIM, K, SEEN, BATCH = 64, 100, 40, 4096


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


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and its seconds."""
    began = time.perf_counter()
    done = work()
    return done, time.perf_counter() - began


def product(queries: np.ndarray, vectors: np.ndarray) -> None:
    """The floor: every score, in blocks of 16 MiB, into the same memory."""
    step = max(1, (1 << 22) // len(vectors))
    scores = np.empty((step, len(vectors)), dtype=np.float32)
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        np.matmul(part, vectors.T, out=scores[: len(part)])


def ours(index: TitleIndex, queries: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rows (q, 100) by `TitleIndex.search`."""
    starts = range(0, len(queries), BATCH)
    return np.concatenate([index.search(queries[s : s + BATCH], K, exclude=seen[s : s + BATCH])[0] for s in starts])


def faiss_flat(index: Any, queries: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rows (q, 100) by over-fetching and dropping what was seen."""
    fetched = index.search(queries, K + max(map(len, seen)))[1]
    kept = [row[~np.isin(row, gone)][:K] for row, gone in zip(fetched, seen, strict=True)]
    return np.stack(kept)


def run(size: str) -> dict[str, Any]:
    """The benchmark's one result object; speeds are members per second."""
    members, titles = SIZES[size]
    queries, vectors, seen = problem(members, titles)
    index = TitleIndex.build(np.arange(titles), vectors)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    product(queries[:512], vectors)  # warms the thread pool
    _, floor = timed(lambda: product(queries, vectors))
    found, mine = timed(lambda: ours(index, queries, seen))
    theirs, peer = timed(lambda: faiss_flat(flat, queries, seen))
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
        "quality": {"agreement_with_faiss_flat": agree, "seen_titles_returned": leaked},
    }


def main() -> None:
    """Run, print the table, and with --json the result as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    args = parser.parse_args()
    result = run(args.size)
    assert result["quality"]["seen_titles_returned"] == 0, "a seen title was returned"
    assert result["quality"]["agreement_with_faiss_flat"] > 0.99, "not the titles that FAISS Flat finds"
    for name, speed in (("samespace", result["ours"]), ("floor", result["floor"]), *result["peers"].items()):
        print(f"{name:12} {speed:12,.0f} members/s   {result['ours'] / speed:6.2f} x by samespace")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
