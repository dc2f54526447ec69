"""Point in time: which vector was live for each (member, moment), through Feast's default store, and by other ways.

Thirty nights, in each of which a share of the members got a new vector, and one question per row of a training set.
The floor is DuckDB's own ASOF JOIN on the same files; the peers are Feast's Dask store and pandas' `merge_asof` with
everything in memory. All answers are compared, bit for bit, with a brute-force search in NumPy.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stores import schema
from stores.feast.feature_views import BLUE_SLOT, MEMBERS, TITLES, history_schema
from stores.feast.offline_store import history_path, history_rows, write_history
from stores.feast.release_diff import ReleaseDiff
from stores.feast.repository import FeatureRepository, PublishConfig, with_services, with_views
from stores.files.filesystem import Storage

SIZES = {"small": (20_000, 100_000), "full": (200_000, 1_000_000)}
DASK_ROWS = 5_000
"""Questions for Feast's Dask store, which answers hundreds a second; drawn at random."""
DIM, NIGHTS, SHARE = 64, 30, 0.05
BEGIN = datetime(2026, 6, 1, 2, tzinfo=UTC)
VIEW = MEMBERS.view("1")


def night(ids: np.ndarray, number: int) -> pa.Table:
    """The rows that one night changed; the vector's first float names the row."""
    made = np.random.default_rng(number).standard_normal((len(ids), DIM), dtype=np.float32)
    return pa.table(
        {
            schema.MEMBER_ID: ids,
            schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), DIM),
            schema.RELEASE_ID: [f"night {number}"] * len(ids),
            schema.ENCODED_AT: pa.array([BEGIN] * len(ids), schema.TIMESTAMP_TYPE),
        }
    )


def written(place: str, members: int, offline: str) -> FeatureRepository:
    """A repository whose history has thirty nights."""
    storage = Storage(place)
    repository = FeatureRepository(storage, PublishConfig(offline_store={"type": offline}))
    for number in range(NIGHTS):
        random = np.random.default_rng(1000 + number)
        ids = np.arange(members) if number == 0 else random.choice(members, int(members * SHARE), replace=False)
        table, at = night(ids, number), BEGIN + timedelta(days=number)
        rows = history_rows(MEMBERS, "1", at, ReleaseDiff(table, pa.array([], pa.int64()), pa.array([], pa.int64())))
        path = history_path(MEMBERS, "1", f"{number:03}")
        write_history(storage, path, history_schema(MEMBERS, table.schema), iter([rows]), lambda: None)
    found = {
        MEMBERS: table.schema,
        TITLES: pa.schema([pa.field(schema.TITLE_ID, pa.int64()), *list(table.schema)[1:]]),
    }
    empty = history_schema(TITLES, found[TITLES])
    write_history(storage, history_path(TITLES, "1", "000"), empty, iter([]), lambda: None)
    repository.update(lambda d: with_services(with_views(d, found, "1", 1), [MEMBERS, TITLES], "1", BLUE_SLOT, {}))
    return repository


def questions(members: int, rows: int) -> pd.DataFrame:
    """Members at random moments of the thirty days, to the microsecond."""
    random = np.random.default_rng(5)
    offsets = pd.to_timedelta(random.integers(0, NIGHTS * 86_400_000_000, rows), unit="us")
    asked = {schema.MEMBER_ID: random.integers(0, members, rows), "event_timestamp": pd.Timestamp(BEGIN) + offsets}
    return pd.DataFrame(asked).sort_values("event_timestamp", ignore_index=True)


def by_feast(repository: FeatureRepository, asked: pd.DataFrame) -> pa.Table:
    """What a Feast user writes."""
    features = [f"{VIEW}:{schema.EMBEDDING}"]
    found: pa.Table = repository.open().get_historical_features(asked, features).to_arrow()
    return found.select([schema.MEMBER_ID, "event_timestamp", schema.EMBEDDING])


def by_duckdb(files: str, asked: pd.DataFrame) -> pa.Table:
    """DuckDB's ASOF JOIN."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("asked", asked)
        return connection.execute(
            "SELECT asked.member_id, asked.event_timestamp, h.embedding FROM asked ASOF LEFT JOIN "
            f"read_parquet('{files}') h ON asked.member_id = h.member_id AND asked.event_timestamp >= h.event_timestamp"
        ).to_arrow_table()


def by_pandas(files: list[Path], asked: pd.DataFrame) -> pa.Table:
    """`merge_asof` with rows of the history instead of vectors, which pandas would box one by one."""
    table = pa.concat_tables([pq.read_table(path) for path in files])
    history = table.select([schema.MEMBER_ID, "event_timestamp"]).to_pandas()
    history["row"] = np.arange(len(history))
    history = history.sort_values("event_timestamp").astype({"event_timestamp": asked["event_timestamp"].dtype})
    found = pd.merge_asof(asked, history, on="event_timestamp", by=schema.MEMBER_ID)
    vectors = table[schema.EMBEDDING].combine_chunks().take(pa.array(found["row"].to_numpy()))
    return pa.table(
        {
            schema.MEMBER_ID: asked[schema.MEMBER_ID],
            "event_timestamp": asked["event_timestamp"],
            schema.EMBEDDING: vectors,
        }
    )


def brute_force(files: list[Path], asked: pd.DataFrame) -> np.ndarray:
    """(rows, DIM): the newest row of the member at or before the moment, by one sorted search in NumPy."""
    table = pa.concat_tables([pq.read_table(path) for path in files])
    since = table["event_timestamp"].cast(pa.int64()).to_numpy()
    member = table[schema.MEMBER_ID].to_numpy()
    order = np.lexsort([since, member])
    start = _micros(pd.DataFrame({"event_timestamp": [pd.Timestamp(BEGIN)]}))[0]
    span = NIGHTS * 86_400_000_000 + 1
    keys = member[order] * span + (since[order] - start)
    wanted = asked[schema.MEMBER_ID].to_numpy() * span + (_micros(asked) - start)
    at = np.searchsorted(keys, wanted, side="right") - 1
    matrix = pc.list_flatten(table[schema.EMBEDDING]).to_numpy().reshape(-1, DIM)
    return matrix[order[at]]


def _micros(asked: pd.DataFrame) -> Any:
    return asked["event_timestamp"].dt.tz_convert(None).astype("datetime64[us]").astype("int64").to_numpy()


def agrees(found: pa.Table, asked: pd.DataFrame, expected: np.ndarray) -> bool:
    """Whether an answer, whose rows may come in any order, is the expected one bit for bit."""
    frame = pd.DataFrame(
        {
            "m": found[schema.MEMBER_ID].to_numpy(),
            "t": found["event_timestamp"].cast(schema.TIMESTAMP_TYPE).cast(pa.int64()).to_numpy(),
        }
    )
    there = np.lexsort([frame["t"], frame["m"]])
    wanted = np.lexsort([_micros(asked), asked[schema.MEMBER_ID].to_numpy()])
    if found[schema.EMBEDDING].null_count or found.num_rows != len(asked):
        return False
    matrix = pc.list_flatten(found[schema.EMBEDDING].combine_chunks()).to_numpy().reshape(-1, DIM)
    return matrix[there].tobytes() == expected[wanted].tobytes()


def main() -> None:
    """Print a table, or with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    members, rows = SIZES[args.size]
    with tempfile.TemporaryDirectory() as place:
        stores = {name: written(f"{place}/{name}", members, name) for name in ("duckdb", "dask")}
        asked = questions(members, rows)
        files = sorted(Path(f"{place}/duckdb/feast/history/{VIEW}").glob("*.parquet"))
        expected = brute_force(files, asked)
        few = asked.sample(DASK_ROWS, random_state=0).sort_index()
        ways: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame], pa.Table]]] = {
            "ours": (asked, lambda these: by_feast(stores["duckdb"], these)),
            "floor": (asked, lambda these: by_duckdb(f"{files[0].parent}/*.parquet", these)),
            "feast_dask": (few, lambda these: by_feast(stores["dask"], these)),
            "pandas": (asked, lambda these: by_pandas(files, these)),
        }
        by_feast(stores["duckdb"], asked.head(10))  # imports are not what is measured
        rate, equal = {}, {}
        for name, (these, way) in ways.items():
            began = time.perf_counter()
            found = way(these)
            rate[name] = len(these) / (time.perf_counter() - began)
            equal[name] = agrees(found, these, expected[these.index])
            print(f"{name:11} {rate[name]:12,.0f} rows/s  equals brute force: {equal[name]}")
    if args.json:
        print(json.dumps(_contract(args.size, rate, equal)))


def _contract(size: str, rate: dict[str, float], equal: dict[str, bool]) -> dict[str, Any]:
    peers = {name: rate[name] for name in ("feast_dask", "pandas")}
    ratios = {name: rate["ours"] / value for name, value in peers.items()}
    return {
        "stage": "history",
        "size": size,
        "ours": rate["ours"],
        "floor": rate["floor"],
        "peers": peers,
        "unit": f"rows/s joined with {DIM} floats over {NIGHTS} nights",
        "ratio_floor": rate["ours"] / rate["floor"],
        "ratios": ratios,
        "ratio_best_peer": min(ratios.values()),
        "quality": {"equals_brute_force": equal},
    }


if __name__ == "__main__":
    main()
