"""Histories lose nothing they promise to keep, and are the same however they were made."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.histories.job import CATALOGUE, HistoriesConfig, plan_shards, read_histories, run, tokenise
from embeddings.histories.sharding import shard_of
from stores.errors import ContractError, NotFoundError
from stores.lake.contract import Lake
from stores.lake.scan import ScanConfig
from stores.releases.dead_letter import count_by_reason
from stores.releases.release import Plan, Release
from stores.schema import ACTIONS, catalogue_schema, history_schema

START = datetime(2024, 5, 1, tzinfo=UTC)
AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
ONE_THREAD = ScanConfig(threads=1)
CONFIG = HistoriesConfig(scan=ONE_THREAD)
TIME = pa.timestamp("us", tz="UTC")

EVENT = st.fixed_dictionaries(
    {
        "member_id": st.integers(0, 3),
        "title_id": st.integers(0, 2),
        "event_time": st.integers(0, 200).map(lambda minutes: START + timedelta(minutes=minutes)),
        "action": st.sampled_from(ACTIONS[:4]),
        "duration_s": st.none() | st.floats(0, 1e5),
        "value": st.none() | st.floats(-5, 5, width=32),
        "device": st.none() | st.sampled_from(["tv", "téléphone"]),
    }
)
SCHEMA = pa.schema(
    [
        ("member_id", pa.int64()),
        ("title_id", pa.int64()),
        ("event_time", TIME),
        ("action", pa.string()),
        ("duration_s", pa.float64()),
        ("value", pa.float64()),
        ("device", pa.string()),
    ]
)


def table_of(events: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(events, schema=SCHEMA)


def event(minute: float = 0, title: Any = 1, member: Any = 1, action: str = "play", **more: Any) -> dict[str, Any]:
    time = START + timedelta(minutes=minute)
    return {"member_id": member, "title_id": title, "event_time": time, "action": action, **more}


def by_hand(events: list[dict[str, Any]], gap: timedelta) -> dict[int, list[dict[str, Any]]]:
    """The definition of tokens, one event at a time."""
    seen: set[tuple[Any, ...]] = set()
    members: dict[int, list[dict[str, Any]]] = {}
    for one in sorted(events, key=lambda row: row["event_time"]):
        row = tuple(one[name] for name in SCHEMA.names)
        if row in seen:
            continue
        seen.add(row)
        tokens = members.setdefault(one["member_id"], [])
        joins = tokens and tokens[-1]["title"] == one["title_id"] and one["event_time"] - tokens[-1]["last"] <= gap
        if not joins:
            first = {"title": one["title_id"], "first": one["event_time"], "device": one["device"], "value": math.nan}
            tokens.append({**first, "actions": 0, "durations": [], "events": 0})
        tokens[-1]["last"] = one["event_time"]
        tokens[-1]["actions"] |= 1 << ACTIONS.index(one["action"])
        tokens[-1]["durations"].append(one["duration_s"] or 0.0)
        tokens[-1]["events"] += 1
        tokens[-1]["value"] = tokens[-1]["value"] if one["value"] is None else one["value"]
    return members


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=40), st.sampled_from([0, 10, 30]))
def test_tokens_are_those_of_the_definition(events: list[dict[str, Any]], gap: int) -> None:
    loose = CONFIG.model_copy(update={"merge_gap_minutes": float(gap), "max_bad_fraction": 1.0})
    histories = tokenise(table_of(events), config=loose)
    expected = by_hand(events, timedelta(minutes=gap))
    assert histories.schema == history_schema(pa.int64(), pa.int64())
    assert histories["member_id"].to_pylist() == sorted(expected)
    for row in histories.to_pylist():
        tokens = expected[row["member_id"]]
        assert row["title_id"] == [token["title"] for token in tokens]
        assert row["first_time"] == [token["first"] for token in tokens]
        assert row["last_time"] == [token["last"] for token in tokens]
        assert row["actions"] == [token["actions"] for token in tokens]
        assert row["events"] == [token["events"] for token in tokens]
        assert row["device"] == [token["device"] for token in tokens]
        assert np.allclose(row["duration_s"], [math.fsum(token["durations"]) for token in tokens])
        assert np.array_equal(row["value"], [token["value"] for token in tokens], equal_nan=True)
        assert row["event_time"] == tokens[-1]["last"]


def random_events(rows: int, members: int = 60, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    micros = rng.integers(0, 30 * 86_400, rows) * 1_000_000 + round(START.timestamp() * 1e6)
    return pa.table(
        {
            "member_id": rng.integers(0, members, rows),
            "title_id": rng.integers(0, 9, rows),
            "event_time": pa.array(micros).cast(TIME),
            "action": np.array(["play", "trailer"])[rng.integers(0, 2, rows)],
            "duration_s": rng.random(rows) * 1000,
            "country": np.array(["DE", "US"])[rng.integers(0, 2, rows)],
        }
    )


def write_lake(place: Path, interactions: pa.Table, titles: Any = range(9), files: int = 3) -> Lake:
    for name in ("interactions", "titles"):
        (place / name).mkdir(parents=True, exist_ok=True)
    step = -(-interactions.num_rows // files)
    for part in range(files):
        pq.write_table(interactions.slice(part * step, step), place / "interactions" / f"{part}.parquet")
    table = titles if isinstance(titles, pa.Table) else pa.table({"title_id": list(titles)})
    pq.write_table(table, place / "titles" / "t.parquet")
    return Lake.open(str(place))


def release_of(workspace: Path, lake: Lake, shards: int = 4, as_of: datetime = AS_OF) -> Release:
    release_id = "20240601T020000Z-0000"
    fields = {"plan_hash": "", "model_id": "m", "space_id": "1", "reference_release": None, "previous_release": None}
    times = {"as_of": as_of, "created_at": max(as_of, AS_OF)}
    plan = Plan(release_id=release_id, lake=lake.storage.uri, shards=shards, config={}, **times, **fields)
    release = Release(str(workspace), release_id)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    return release


def per_member(table: pa.Table) -> dict[int, tuple[int, float]]:
    grouped = table.group_by("member_id").aggregate([("duration_s", "sum"), ("title_id", "count")])
    rows = grouped.to_pylist()
    return {row["member_id"]: (row["title_id_count"], row["duration_s_sum"]) for row in rows}


def test_sums_of_every_member_survive_the_night(tmp_path: Path) -> None:
    events = random_events(3000)
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", events))
    report = run(CONFIG, release)
    expected = per_member(events)
    for row in release.histories().to_table().to_pylist():
        count, seconds = expected.pop(row["member_id"])
        assert sum(row["events"]) == count
        assert math.isclose(sum(row["duration_s"]), seconds)
    assert not expected
    metrics = report.metrics
    assert metrics["events_accepted"] == metrics["events_read"] == 3000
    assert metrics["actions"]["play"] + metrics["actions"]["trailer"] == 3000
    assert metrics["members"] == report.rows == 60
    assert metrics["events_per_token"] == round(3000 / metrics["tokens"], 4) >= 1
    assert count_by_reason(release) == metrics["refused"] == {}


def test_every_member_is_in_the_file_of_its_shard_in_order(tmp_path: Path) -> None:
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", random_events(500)), shards=7)
    run(CONFIG, release)
    files = release.storage.files("histories")
    assert files == [f"histories/part-{number:05d}.parquet" for number in range(7)]
    for number, path in enumerate(files):
        table = release.storage.read_table(path)
        ids = table["member_id"].to_pylist()
        assert table.schema == history_schema(pa.int64(), pa.int64())
        assert ids == sorted(ids)
        assert {shard_of(one, 7) for one in ids} <= {number}


def test_blocks_threads_files_and_arrival_do_not_matter(tmp_path: Path) -> None:
    events = random_events(4000)
    first = release_of(tmp_path / "a", write_lake(tmp_path / "lake", events), shards=5)
    run(CONFIG, first)
    second = release_of(tmp_path / "b", write_lake(tmp_path / "other", events, files=1), shards=5)
    run(HistoriesConfig(block_rows=700, scan=ScanConfig(threads=2, memory_limit="200MB")), second)
    assert [entry.sha256 for entry in first.completed_files()] == [entry.sha256 for entry in second.completed_files()]
    histories, catalogue = read_histories(Lake.open(str(tmp_path / "lake")), AS_OF, CONFIG)
    unequal = ["value"]  # NaN; the hash beside it covers it
    stored = first.histories().to_table().sort_by("member_id").drop_columns(unequal)
    assert histories.drop_columns(unequal).equals(stored)
    assert catalogue.drop_columns(["age_days"]).equals(first.storage.read_table(CATALOGUE).drop_columns(["age_days"]))


def test_a_second_run_writes_nothing_and_redoes_what_is_damaged(tmp_path: Path) -> None:
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", random_events(500)))
    report = run(CONFIG, release)
    before = {path: release.storage.read(path) for path in release.storage.files("histories")}
    stamps = {path: release.storage.local(path).stat().st_mtime_ns for path in before}
    release.storage.local("histories/part-00002.parquet").write_bytes(b"half")
    assert run(CONFIG, release) == report
    assert {path: release.storage.read(path) for path in before} == before
    changed = [path for path in before if release.storage.local(path).stat().st_mtime_ns != stamps[path]]
    assert changed == ["histories/part-00002.parquet"]


def test_the_hash_names_the_content_of_a_member_only(tmp_path: Path) -> None:
    base = [event(0, "é", "a"), event(60, "b", "a"), event(0, "b", "b")]

    def hashes(events: list[dict[str, Any]]) -> dict[str, str]:
        table = tokenise(pa.Table.from_pylist(events), config=CONFIG)
        return dict(zip(table["member_id"].to_pylist(), table["history_hash"].to_pylist(), strict=True))

    first = hashes(base)
    assert hashes(base[::-1]) == first
    more = hashes([*base, event(90, "A new title", "b")])
    assert more["a"] == first["a"]
    assert more["b"] != first["b"]
    for column, value in (("action", "rate"), ("duration_s", 1.0), ("value", 2.0), ("locale", "de")):
        changed = [base[0] | {column: value}, *base[1:]]
        assert hashes(changed)["a"] != first["a"], column
        assert hashes(changed)["b"] == first["b"]


def test_the_first_of_exact_duplicates_stays(tmp_path: Path) -> None:
    rows = [event(0, device="tv"), event(0, device="pc"), event(0, device="tv"), event(5, 2, device="tv")] * 2
    lake = write_lake(tmp_path / "lake", table_of(rows), files=2)
    release = release_of(tmp_path / "ws", lake)
    report = run(HistoriesConfig(max_bad_fraction=0.7), release)
    assert report.metrics["refused"] == count_by_reason(release) == {"duplicate": 5}
    assert [sum(row["events"]) for row in release.histories().to_table().to_pylist()] == [3]
    letters = release.storage.read_table("dead_letter/duplicates.parquet").to_pylist()
    names = [(row["source"], row["row"]) for row in letters]
    assert names == [("interactions/0.parquet", 2), *(("interactions/1.parquet", row) for row in range(4))]
    with pytest.raises(ContractError, match="duplicate: 5"):
        run(CONFIG, release)


def test_equal_times_keep_the_order_of_the_lake(tmp_path: Path) -> None:
    titles = [5, 1, 8, 3, 0, 7, 2]
    write_lake(tmp_path, table_of([event(0, title) for title in titles]), files=3)
    histories, _ = read_histories(Lake.open(str(tmp_path)), AS_OF, CONFIG)
    assert histories["title_id"].to_pylist() == [titles]


def test_only_the_last_tokens_of_a_long_member_are_kept(tmp_path: Path) -> None:
    rows = [event(minute * 60, minute % 9, member) for member in (1, 2, 3) for minute in range(10 * member)]
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", table_of(rows)))
    report = run(HistoriesConfig(max_tokens=12), release)
    lengths = {row["member_id"]: row["title_id"] for row in release.histories().to_table().to_pylist()}
    assert {member: len(titles) for member, titles in lengths.items()} == {1: 10, 2: 12, 3: 12}
    assert lengths[3] == [minute % 9 for minute in range(18, 30)]
    assert report.metrics["tokens_dropped"] == 8 + 18


@pytest.mark.parametrize("ids", [[2**63 - 1, -(2**63), 0], ["日本語", "a/../b", "x" * 5000], ["", "''", 'n"q']])
def test_huge_and_odd_ids_come_back_as_they_were(tmp_path: Path, ids: list[Any]) -> None:
    rows = pa.Table.from_pylist([event(0, title, member) for member in ids for title in ids])
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", rows, ids))
    run(CONFIG, release)
    table = release.histories().to_table()
    assert sorted(table["member_id"].to_pylist()) == sorted(ids)
    assert all(row == ids for row in table["title_id"].to_pylist())


def test_one_member_and_one_title_make_a_night(tmp_path: Path) -> None:
    lake = write_lake(tmp_path / "lake", table_of([event()]), [1], files=1)
    assert plan_shards(lake, CONFIG) == 1
    release = release_of(tmp_path / "ws", lake, shards=4)
    assert run(CONFIG, release).metrics["tokens"] == 1
    assert release.histories().to_table().num_rows == 1


def test_the_catalogue_has_every_title_with_plays_and_age(tmp_path: Path) -> None:
    titles = pa.table(
        {
            "title_id": [3, 1, 2],
            "name": ["c", "a", "b"],
            "launch_time": pa.array([AS_OF - timedelta(days=10), None, AS_OF + timedelta(hours=12)], TIME),
            "genres": [["x"], None, []],
            "embedding": pa.array([[0.5, 1.5]] * 3, pa.list_(pa.float64(), 2)),
            "unknown": [1, 2, 3],
        }
    )
    rows = [event(0), event(10), event(20, action="trailer"), event(30, 3, action="rate")]
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", table_of(rows), titles))
    run(CONFIG, release)
    table = release.storage.read_table(CATALOGUE)
    assert table.schema == catalogue_schema(pa.int64())
    assert table["title_id"].to_pylist() == [1, 2, 3]
    assert table["plays"].to_pylist() == [2, 0, 1]
    assert table["genres"].to_pylist() == [None, [], ["x"]]
    assert table["embedding"].to_pylist() == [[0.5, 1.5]] * 3
    assert math.isnan(table["age_days"][0].as_py())
    assert table["age_days"].to_pylist()[1:] == [-1.0, 10.0]


def test_the_past_is_seen_as_it_was(tmp_path: Path) -> None:
    events = random_events(2000)
    lake = write_lake(tmp_path / "lake", events)
    moment = START + timedelta(days=10)
    release = release_of(tmp_path / "ws", lake, as_of=moment)
    report = run(CONFIG, release)
    before = events.filter(pa.compute.less_equal(events["event_time"], pa.scalar(moment, TIME)))
    assert report.metrics["events_accepted"] == before.num_rows
    assert report.metrics["refused"] == count_by_reason(release) == {"after as_of": 2000 - before.num_rows}
    assert report.metrics["bad_fraction"] == 0
    assert datetime.fromisoformat(report.metrics["newest_event"]) <= moment
    with pytest.raises(NotFoundError, match="no event up to"):
        run(CONFIG, release_of(tmp_path / "early", lake, as_of=START - timedelta(days=1)))


def test_too_many_bad_rows_stop_the_night_and_leave_the_letters(tmp_path: Path) -> None:
    rows = [event(minute, 1) for minute in range(18)] + [event(0, 99), event(1, 99)]
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", table_of(rows)))
    with pytest.raises(ContractError, match="unknown title: 2") as caught:
        run(CONFIG, release)
    assert "interactions/2.parquet" in str(caught.value)
    assert count_by_reason(release) == {"unknown title": 2}
    assert not release.storage.files("histories")


def test_more_actions_than_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="31"):
        HistoriesConfig(actions=tuple(f"a{number}" for number in range(32)))


def test_a_truncated_file_goes_to_the_dead_letter_and_the_rest_goes_through(tmp_path: Path) -> None:
    events = random_events(4000)
    lake = write_lake(tmp_path / "lake", events, files=40)
    place = tmp_path / "lake" / "interactions" / "7.parquet"
    place.write_bytes(place.read_bytes()[:-200])
    release = release_of(tmp_path / "ws", lake)
    metrics = run(CONFIG, release).metrics
    assert metrics["unreadable_files"] == ["interactions/7.parquet"]
    assert metrics["events_accepted"] == 3900
    lost = metrics["refused"]["unreadable file"]
    assert count_by_reason(release) == {"unreadable file": lost}
    assert metrics["bad_fraction"] == lost / metrics["events_read"] < 0.05
    with pytest.raises(ContractError, match=r"7\.parquet"):
        run(HistoriesConfig(max_bad_fraction=0.001), release)


def test_an_earlier_attempts_letters_do_not_outlive_the_mended_lake(tmp_path: Path) -> None:
    release = release_of(tmp_path / "ws", write_lake(tmp_path / "lake", table_of([event(0), event(1, 99)])))
    with pytest.raises(ContractError):
        run(CONFIG, release)
    write_lake(tmp_path / "lake", table_of([event(0), event(1)]))
    run(CONFIG, release)
    assert count_by_reason(release) == {}
