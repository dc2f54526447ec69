"""Latency of the service under load, beside a plain FAISS + FastAPI service over the same release.

    python benchmarks/serve.py [--size small|full] [--json]

Both run in a process of their own with the same server (uvicorn, one process) and answer the same question: the ten
best titles for a member, seen ones left out. The plain one holds vectors in an array, searches `IndexFlatIP`, fetches
as many more as the member has seen and drops those; it knows no filters, no swap, no metrics. Eight connections ask
one after the other, ours and the peer's in turns, three times. The floor is an empty FastAPI route.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stores.releases.release import Plan, Release
from stores.schema import EMBEDDING, MEMBER_ID, TITLE_ID, history_schema, member_vector_schema, title_vector_schema

SIZES = {"small": (5_000, 2_000, 600), "full": (50_000, 100_000, 6_000)}
WIDTH, SEEN, CONNECTIONS, ROUNDS = 64, 30, 8, 3
NIGHT = datetime(2026, 7, 1, tzinfo=UTC)
IDS = pa.int64()


def filled(schema: pa.Schema, rows: int, **given: Any) -> pa.Table:
    """Rows of a schema; what is not given is null."""
    made = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(made, schema=schema)


def vectors(rng: np.random.Generator, rows: int) -> pa.Array:
    """Vectors whose coordinates lose energy, as those of a canonical space do."""
    x = rng.normal(size=(rows, WIDTH)) * np.geomspace(2, 0.2, WIDTH)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).ravel()), WIDTH)


def publish(folder: str, titles: int, members: int) -> None:
    """A sealed and live release of made-up vectors."""
    from retrieval.config import RetrievalConfig
    from retrieval.job import run

    rng = np.random.default_rng(0)
    release = Release(folder, "20260701T000000Z-0000")
    facts = {"release_id": release.release_id, "plan_hash": "0", "lake": "", "model_id": "m", "space_id": "1"}
    moments = {"as_of": NIGHT, "created_at": NIGHT, "shards": 1, "config": {}}
    plan = Plan(**facts, **moments, reference_release=None, previous_release=None)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    names = [f"Title {i}" for i in range(titles)]
    schema = title_vector_schema(IDS, WIDTH)
    given = {TITLE_ID: np.arange(titles), "name": names, EMBEDDING: vectors(rng, titles)}
    release.write_table("titles/part-00000.parquet", filled(schema, titles, **given))
    schema, ids = member_vector_schema(IDS, WIDTH), np.arange(members)
    given = {MEMBER_ID: ids, EMBEDDING: vectors(rng, members)}
    release.write_table("members/part-00000.parquet", filled(schema, members, **given))
    seen = rng.integers(0, titles, size=(members, SEEN)).tolist()
    table = filled(history_schema(IDS, IDS), members, member_id=ids, title_id=seen)
    release.write_table("histories/part-00000.parquet", table)
    run(RetrievalConfig(), release)
    release.seal([], [], {})
    pointer = {"release_id": release.release_id, "space_id": "1", "promoted_at": str(NIGHT)}
    (Path(folder) / "current.json").write_text(json.dumps(pointer), encoding="utf-8")


def plain(folder: str) -> Any:
    """What a user would write in an afternoon, and below it the floor: a route that does nothing."""
    import faiss
    from fastapi import FastAPI

    release = Release(folder, "20260701T000000Z-0000")
    members = release.members().to_table()
    rows = np.stack(members[EMBEDDING].to_numpy()).astype(np.float32)
    place = {member: row for row, member in enumerate(members[MEMBER_ID].to_pylist())}
    seen = [set(titles) for titles in release.histories().to_table()[TITLE_ID].to_pylist()]
    titles = release.titles().to_table()
    names, ids = titles["name"].to_pylist(), titles[TITLE_ID].to_pylist()
    index = faiss.IndexFlatIP(WIDTH)
    index.add(np.stack(titles[EMBEDDING].to_numpy()).astype(np.float32))
    app = FastAPI()

    @app.get("/v1/members/{member_id}/candidates")
    async def candidates(member_id: int, k: int = 10) -> dict[str, Any]:
        row = place[member_id]
        scores, found = index.search(rows[row : row + 1], k + len(seen[row]))
        kept = [
            (i, score) for i, score in zip(found[0].tolist(), scores[0].tolist(), strict=True) if i not in seen[row]
        ]
        return {"titles": [{"title_id": ids[i], "name": names[i], "score": score} for i, score in kept[:k]]}

    @app.get("/floor/{member_id}")
    async def floor(member_id: int, k: int = 10) -> dict[str, Any]:
        return {"member_id": member_id, "k": k}

    return app


def ours(folder: str) -> Any:
    """Our service over the same release."""
    from retrieval.service import ReleaseWatcher, ServeConfig, create_app
    from stores.releases.workspace import Workspace

    return create_app(ReleaseWatcher(Workspace.open(folder)), ServeConfig(), lambda _: {})


def serve(kind: str, folder: str) -> None:
    """One server, in this process; says its port on stdout."""
    import socket

    import uvicorn

    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config({"ours": ours, "plain": plain}[kind](folder), log_level="error"))
    print(bound.getsockname()[1], flush=True)
    server.run(sockets=[bound])


def load(port: int, path: str, requests: int, members: int) -> tuple[list[float], float]:
    """Seconds of each request over all connections, and requests answered in a second."""
    times: list[list[float]] = [[] for _ in range(CONNECTIONS)]

    def ask(mine: list[float], seed: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for member in np.random.default_rng(seed).integers(0, members, requests // CONNECTIONS).tolist():
            began = time.perf_counter()
            connection.request("GET", path.format(member))
            answer = connection.getresponse()
            answer.read()
            mine.append(time.perf_counter() - began)
            assert answer.status == 200, answer.status
        connection.close()

    threads = [threading.Thread(target=ask, args=(mine, seed)) for seed, mine in enumerate(times)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    return sorted(second for mine in times for second in mine), requests / spent


def titles_of(port: int, member: int) -> list[int]:
    """What a service answers for one member."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/v1/members/{member}/candidates?k=10")
    return [title["title_id"] for title in json.loads(connection.getresponse().read())["titles"]]


def measure(folder: str, members: int, requests: int) -> dict[str, Any]:
    """Latencies of ours, the plain service and the floor, in turns, and whether both answer alike."""
    running = {
        kind: subprocess.Popen([sys.executable, __file__, "--server", kind, folder], stdout=subprocess.PIPE, text=True)
        for kind in ("ours", "plain")
    }
    try:
        ports = {kind: int(process.stdout.readline()) for kind, process in running.items() if process.stdout}
        asked = "/v1/members/{}/candidates?k=10"
        targets = {
            "ours": (ports["ours"], asked),
            "plain": (ports["plain"], asked),
            "floor": (ports["plain"], "/floor/{}"),
        }
        for port, path in targets.values():
            load(port, path, 8 * CONNECTIONS, members)
        agree = [titles_of(ports["ours"], member) == titles_of(ports["plain"], member) for member in range(50)]
        figures: dict[str, Any] = {name: {"p50": [], "p99": [], "rps": []} for name in targets}
        for _ in range(ROUNDS):
            for name, (port, path) in targets.items():
                times, rps = load(port, path, requests, members)
                figures[name]["p50"].append(1e3 * times[len(times) // 2])
                figures[name]["p99"].append(1e3 * times[int(0.99 * len(times))])
                figures[name]["rps"].append(rps)
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
    medians = {name: {key: statistics.median(values) for key, values in one.items()} for name, one in figures.items()}
    return {"figures": medians, "same_answers": sum(agree) / len(agree)}


def main() -> None:
    """Print the table and, if asked, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--server", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.server:
        serve(*args.server)
        return
    titles, members, requests = SIZES[args.size]
    with tempfile.TemporaryDirectory() as folder:
        publish(folder, titles, members)
        found = measure(folder, members, requests)
    figures = found["figures"]
    print(
        f"{titles:,} titles, {members:,} members, {CONNECTIONS} connections, same answers {found['same_answers']:.2f}"
    )
    print(f"{'':8}{'p50 ms':>9}{'p99 ms':>9}{'req/s':>9}")
    for name, one in figures.items():
        print(f"{name:8}{one['p50']:9.2f}{one['p99']:9.2f}{one['rps']:9.0f}")
    if args.json:
        ratio = figures["plain"]["p99"] / figures["ours"]["p99"]
        answer = {"stage": "serve", "size": args.size, "unit": "p99 ms", "ours": figures["ours"]["p99"]}
        answer |= {"floor": figures["floor"]["p99"], "peers": {"faiss_fastapi": figures["plain"]["p99"]}}
        answer |= {"ratio_floor": figures["floor"]["p99"] / figures["ours"]["p99"], "ratios": {"faiss_fastapi": ratio}}
        answer |= {"ratio_best_peer": ratio, "quality": {"same_answers": found["same_answers"]}}
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
