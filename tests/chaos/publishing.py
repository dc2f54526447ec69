"""Readers hammer Feast and the index in other processes while releases are published, killed and spaces opened.

    python tests/chaos/publishing.py --publishes 30 --kills 5 --spaces 2 [--slots 2] [--store redis]

Every vector names its release, space and entity and has a tail that follows from them, so that a reader knows by value
where each row came from. What must never happen: an error, a vector of no release, one that is neither of the release
that was live when the request began nor of a later one, two spaces in one answer; with two slots, two releases in one
answer or in features and index together.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from bisect import bisect_right
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stores import schema
from stores.feast.repository import PublishConfig
from stores.publishing import publish
from stores.releases.lease import lease
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace

MEMBERS, TITLES, DIM, SHARDS = 600, 60, 16, 3
NIGHT = datetime(2026, 7, 1, 2, tzinfo=UTC)
HEAD = 3  # release, space, entity


def vector(number: int, space: int, entity: int) -> np.ndarray:
    """(DIM,) float32 that names its origin and cannot be put together from two others."""
    tail = np.random.default_rng([number, space, entity]).standard_normal(DIM - HEAD, dtype=np.float32)
    return np.concatenate([np.float32([number, space, entity]), tail])


def seal(workspace: Workspace, number: int, space: int) -> str:
    """A release in which every vector is new, with an index of its titles."""
    import faiss

    release_id = f"{NIGHT + timedelta(days=number):%Y%m%dT%H%M%SZ}-{number:04x}"
    plan = Plan(
        release_id=release_id, plan_hash=f"{number:04x}", lake="", as_of=NIGHT, created_at=NIGHT, model_id="m",
        space_id=str(space), reference_release=None, previous_release=None, shards=SHARDS, config={},
    )  # fmt: skip
    workspace.stage(plan, 0)
    release = Release(workspace.uri, release_id)
    for shard in range(SHARDS):
        ids = list(range(shard, MEMBERS, SHARDS))
        table = _table(schema.MEMBER_ID, ids, number, space, release_id)
        release.write_table(f"members/part-{shard:05}.parquet", table)
    titles = _table(schema.TITLE_ID, list(range(TITLES)), number, space, release_id)
    release.write_table("titles/part-00000.parquet", titles)
    index = faiss.IndexFlatIP(DIM)
    index.add(np.stack([vector(number, space, one) for one in range(TITLES)]))
    release.write_bytes("index/candidates.faiss", faiss.serialize_index(index).tobytes())
    release.seal([], [], {})
    return release_id


def _table(key: str, ids: list[int], number: int, space: int, release_id: str) -> pa.Table:
    matrix = np.stack([vector(number, space, one) for one in ids])
    return pa.table(
        {
            key: ids,
            schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM),
            schema.RELEASE_ID: [release_id] * len(ids),
            schema.ENCODED_AT: pa.array([NIGHT] * len(ids), schema.TIMESTAMP_TYPE),
        }
    )


def write(uri: str, release_id: str, config: PublishConfig) -> None:
    """One publishing command, as a process of its own."""
    workspace = Workspace.open(uri)
    with lease(workspace.storage, "chaos") as token:
        publish.recover(workspace, config, token)
        if (workspace.pointer() or {}).get("release_id") != release_id:
            publish.publish(workspace, Release(uri, release_id, token), config)


class Reader:
    """Reads until told to stop; `wrong` is what must not have happened."""

    def __init__(self, uri: str, slots: int, announced: Any) -> None:
        from feast import FeatureStore

        self.workspace, self.slots, self.announced = Workspace.open(uri), slots, announced
        self.store = FeatureStore(repo_path=f"{uri}/feast")
        self.reads, self.crossed, self.wrong = 0, 0, []

    def once(self) -> None:
        """One request, and everything that must hold of its answer."""
        pointer = self.workspace.pointer()
        assert pointer is not None
        space, before = int(pointer["space_id"]), _number(pointer["release_id"])
        ids = random.sample(range(MEMBERS), 40)
        rows = [{schema.MEMBER_ID: one, schema.TITLE_ID: one % TITLES} for one in ids]
        if self.slots == 2:
            asked = self.store.get_feature_service(f"embeddings_v{space}")
            release_id = asked.tags["release_id"]
        else:
            suffix = "" if space == 1 else f"_s{space}"
            asked = [f"{kind}_embedding{suffix}:embedding" for kind in ("member", "title")]
            release_id = pointer["release_id"]
        found = self.store.get_online_features(asked, rows, full_feature_names=True).to_dict()
        seen = {number for kind in ("member", "title") for number in self._check(found, kind, space)}
        self._compare(seen, before, release_id)
        self._search(space, release_id)
        self.reads += 1

    def _check(self, found: dict[str, list[Any]], kind: str, space: int) -> set[int]:
        """Numbers of the releases whose vectors were served, each checked against what it must be."""
        name = next(name for name in found if name.startswith(kind) and name.endswith("__embedding"))
        numbers = set()
        for entity, served in zip(found[f"{kind}_id"], found[name], strict=True):
            if served is None:
                self.wrong.append(f"{kind} {entity} has no vector in space {space}")
                continue
            got = np.asarray(served, np.float32)
            number = int(got[0])
            if got.tobytes() != vector(number, space, entity).tobytes():
                self.wrong.append(f"{kind} {entity} in space {space}: {got[:HEAD].tolist()} is no vector of a release")
            numbers.add(number)
        return numbers

    def _compare(self, seen: set[int], before: int, release_id: str) -> None:
        latest = self.announced.value
        self.crossed += len(seen) > 1
        if self.slots == 2 and seen != {_number(release_id)}:
            self.wrong.append(f"releases {seen} in one answer of {release_id}")
        if self.slots == 1 and not all(before <= number <= latest for number in seen):
            self.wrong.append(f"releases {seen}, live was {before}, the newest {latest}")

    def _search(self, space: int, release_id: str) -> None:
        import faiss

        data = Release(self.workspace.uri, release_id).storage.read("index/candidates.faiss")
        index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        first = index.reconstruct(0)
        if (int(first[0]), int(first[1])) != (_number(release_id), space):
            self.wrong.append(f"the index of {release_id} is of release {first[0]}, space {first[1]}")


def read(uri: str, slots: int, announced: Any, stop: Any, answers: Any) -> None:
    """A reading process."""
    reader = Reader(uri, slots, announced)
    while not stop.is_set():
        try:
            reader.once()
        except Exception as error:
            reader.wrong.append(f"{type(error).__name__}: {error}")
    answers.put({"reads": reader.reads, "crossed": reader.crossed, "wrong": reader.wrong[:20]})


def _number(release_id: str) -> int:
    return int(release_id[-4:], 16)


def chaos(uri: str, config: PublishConfig, args: argparse.Namespace) -> dict[str, Any]:
    """Publish under fire; counts, and all that went wrong."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["feast", "faiss", "stores.publishing.publish", "pyarrow.dataset", "tests.chaos.publishing"]
    )
    workspace, random_ = Workspace.open(uri), random.Random(args.seed)
    opens = {args.publishes * (n + 1) // (args.spaces + 1) for n in range(args.spaces)}
    killed = sorted(random_.sample(range(1, args.publishes + 1), args.kills))
    announced, stop, answers = context.Value("i", 0), context.Event(), context.Queue()
    space, took, kills = 1, 1.0, 0
    write(uri, seal(workspace, 0, space), config)
    readers = [
        context.Process(target=read, args=(uri, config.slots, announced, stop, answers)) for _ in range(args.readers)
    ]
    for reader in readers:
        reader.start()
    for number in range(1, args.publishes + 1):
        space += number in opens
        release_id = seal(workspace, number, space)
        announced.value = number
        if kills < bisect_right(killed, number):  # one that came too late to hit is made up for
            kills += _killed(context, (uri, release_id, config), random_.uniform(0, took))
        began = time.monotonic()
        writer = context.Process(target=write, args=(uri, release_id, config))
        writer.start()
        writer.join()
        took = 0.5 * took + 0.5 * (time.monotonic() - began)
        assert writer.exitcode == 0, f"publishing {release_id} failed"
        assert (workspace.pointer() or {})["release_id"] == release_id
    stop.set()
    found = [answers.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    total = {name: sum(one[name] for one in found) for name in ("reads", "crossed")}
    counts = {"publishes": args.publishes, "killed": kills, "spaces": space, "slots": config.slots}
    return {**counts, **total, "wrong": [fault for one in found for fault in one["wrong"]]}


def _killed(context: Any, words: tuple[Any, ...], after: float) -> bool:
    """Start publishing and kill it; whether it was still running."""
    writer = context.Process(target=write, args=words)
    writer.start()
    writer.join(after)
    alive = bool(writer.is_alive())
    writer.kill()
    writer.join()
    return alive


def main() -> int:
    """Exit code 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"publishes": 30, "kills": 5, "spaces": 2, "readers": 2, "slots": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _redis(args.store, folder) as port:
        online = (
            {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
            if port
            else {"type": "sqlite", "path": "online.db"}
        )
        config = PublishConfig(online_store=online, slots=args.slots, registry_ttl_s=1)
        found = chaos(str(Path(folder) / "ws"), config, args)
    print(json.dumps(found))
    return 1 if found["wrong"] else 0


def _redis(store: str, folder: str) -> Any:
    if store == "sqlite":
        return nullcontext(0)
    from benchmarks.publish import redis_server

    return redis_server(folder)


if __name__ == "__main__":
    sys.exit(main())
