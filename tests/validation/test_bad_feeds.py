"""Faults planted in a real lake, one Parquet file a day, that the histories stage reads and the gate judges."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig
from embeddings.histories.job import run as run_histories
from stores.errors import ContractError
from stores.lake.scan import ScanConfig
from stores.releases.dead_letter import count_by_reason
from stores.releases.release import Plan, Release, StageReport
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_input

FIRST = datetime(2026, 6, 1, tzinfo=UTC)
DAYS, HEALTHY, MEMBERS, TITLES, PER_DAY = 24, 3, 300, 80, 400
COUNTRIES, SHARES = ("US", "BR", "NZ"), (0.3, 0.4, 0.3)
TIME = pa.timestamp("us", tz="UTC")
STAGES = HistoriesConfig(scan=ScanConfig(threads=1))


def day_of(number: int) -> pa.Table:
    """What happened on a day; a member lives in one country, at weekends more is watched."""
    rng = np.random.default_rng([3, number])
    date = FIRST + timedelta(days=number)
    count = int(rng.poisson(PER_DAY * (1.3 if date.weekday() in (5, 6) else 1.0)))
    members = rng.integers(0, MEMBERS, count)
    homes = np.random.default_rng(4).choice(COUNTRIES, MEMBERS, p=SHARES)
    at = np.sort(rng.integers(0, 86_400, count))
    return pa.table(
        {
            "member_id": pa.array(members),
            "title_id": pa.array(rng.integers(0, TITLES, count)),
            "event_time": pa.array([date + timedelta(seconds=int(second)) for second in at], TIME),
            "action": pa.array(["play"] * count),
            "duration_s": pa.array(rng.lognormal(7.6, 0.8, count)),
            "country": pa.array(homes[members]),
        }
    )


class Feed:
    """A lake that gets one file a day, and the nights that read it."""

    def __init__(self, folder: Path) -> None:
        self.lake, self.workspace = folder / "lake", folder / "workspace"
        (self.lake / "titles").mkdir(parents=True)
        (self.lake / "interactions").mkdir()
        pq.write_table(
            pa.table({"title_id": pa.array(range(TITLES), pa.int64())}), self.lake / "titles" / "all.parquet"
        )
        for number in range(DAYS - 1):
            self.deliver(number)
        self.live: str | None = None
        self.nights = 0

    def file(self, number: int) -> Path:
        """The file of a day."""
        return self.lake / "interactions" / f"{FIRST + timedelta(days=number):%Y-%m-%d}.parquet"

    def deliver(self, number: int) -> None:
        """Put the file of a day in its place."""
        pq.write_table(day_of(number), self.file(number))

    def night(self, number: int) -> Release:
        """A night two hours after the end of a day; none of its stages has run."""
        as_of = FIRST + timedelta(days=number + 1, hours=2)
        self.nights += 1
        release_id = f"{as_of:%Y%m%dT%H%M%SZ}-{self.nights:04x}"
        facts = {"release_id": release_id, "plan_hash": "0", "lake": str(self.lake), "model_id": "m", "space_id": "1"}
        release = Release(str(self.workspace), release_id)
        plan = Plan(
            **facts, as_of=as_of, created_at=as_of, reference_release=None, previous_release=self.live, shards=2,
            config={},
        )  # fmt: skip
        release.storage.write("plan.json", plan.model_dump_json().encode())
        return release

    def judge(self, release: Release) -> StageReport:
        """Read the lake and judge what was read."""
        release.run_stage("histories", lambda: run_histories(STAGES, release))
        return release.run_stage("gate_input", lambda: run_input(GateConfig(), release))


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """A lake with three healthy nights behind it; the next day's file is there too."""
    found = Feed(tmp_path_factory.mktemp("feed"))
    for at in range(HEALTHY):
        number = DAYS - 1 - HEALTHY + at
        for later in range(number + 1, DAYS):
            found.file(later).unlink(missing_ok=True)
        found.deliver(number)
        release = found.night(number)
        assert failed(found.judge(release)) == {"hold": {}, "warn": {}}
        release.seal([], [release.stage_report(name) for name in ("histories", "gate_input")], {})
        found.live = release.release_id
    return found


@pytest.fixture
def tonight(feed: Feed) -> Release:
    """The night after, of a lake that is whole again whatever the test before did to it."""
    for number in range(DAYS):
        feed.deliver(number)
    for path in feed.lake.glob("interactions/again*"):
        path.unlink()
    return feed.night(DAYS - 1)


def failed(report: StageReport) -> dict[str, dict[str, tuple[str, ...]]]:
    """The failed checks with their examples, by level."""
    verdict = GateVerdict.of("input", report.metrics)
    sides = {"hold": verdict.held, "warn": verdict.warnings}
    return {level: {check.expectation: check.examples for check in checks} for level, checks in sides.items()}


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a file of the lake."""
    pq.write_table(change(pq.read_table(path)), path)


def put(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.schema.get_field_index(name), name, values)


def later(days: int) -> Callable[[pa.Table], pa.Table]:
    """Moves every event."""
    return lambda table: put(table, "event_time", pc.add(table["event_time"], pa.scalar(timedelta(days=days))))


def without(country: str) -> Callable[[pa.Table], pa.Table]:
    """Leaves a country out."""
    return lambda table: table.filter(pc.not_equal(table["country"], country))


def minutes_for_seconds(feed: Feed) -> None:
    rewrite(feed.file(DAYS - 1), lambda table: put(table, "duration_s", pc.divide(table["duration_s"], 60.0)))


def one_country_missing_tonight(feed: Feed) -> None:
    rewrite(feed.file(DAYS - 1), without("BR"))


def one_country_missing_altogether(feed: Feed) -> None:
    for number in range(DAYS):
        rewrite(feed.file(number), without("BR"))


def yesterdays_file_again(feed: Feed) -> None:
    feed.file(DAYS - 1).write_bytes(feed.file(DAYS - 2).read_bytes())


def no_file_at_all(feed: Feed) -> None:
    feed.file(DAYS - 1).unlink()


def a_lost_day(feed: Feed) -> None:
    feed.file(DAYS - 5).unlink()


@pytest.mark.parametrize(
    ("spoil", "check", "example"),
    [
        (minutes_for_seconds, "durations are in the unit they were in", "play: median"),
        (one_country_missing_tonight, "no country fell silent", "BR: 0 events"),
        (one_country_missing_altogether, "countries keep their events", "BR: 0 events"),
        (yesterdays_file_again, "there are new events since the previous night", "newest event before"),
        (no_file_at_all, "there are new events since the previous night", "newest event before"),
        (a_lost_day, "past days keep their events", "2026-06-20: 0 events"),
    ],
)
def test_a_spoilt_lake_is_held_for_the_right_reason(
    feed: Feed, tonight: Release, spoil: Callable[[Feed], None], check: str, example: str
) -> None:
    spoil(feed)
    held = failed(feed.judge(tonight))["hold"]
    assert check in held
    assert held[check][0].startswith(example)


def test_the_same_lake_unspoilt_is_not_held(feed: Feed, tonight: Release) -> None:
    assert failed(feed.judge(tonight)) == {"hold": {}, "warn": {}}


def test_a_day_delivered_twice_is_quarantined_row_by_row(feed: Feed, tonight: Release) -> None:
    whole = pq.read_table(feed.file(DAYS - 4))
    pq.write_table(whole, feed.lake / "interactions" / "again.parquet")
    assert failed(feed.judge(tonight)) == {"hold": {}, "warn": {"few rows are refused": (f"duplicate: {len(whole)}",)}}
    assert count_by_reason(tonight) == {"duplicate": len(whole)}


def test_two_days_delivered_twice_stop_the_night(feed: Feed, tonight: Release) -> None:
    for at in (4, 5):
        (feed.lake / "interactions" / f"again-{at}.parquet").write_bytes(feed.file(DAYS - at).read_bytes())
    with pytest.raises(ContractError, match="duplicate") as raised:
        feed.judge(tonight)
    assert raised.value.exit_code == 3


def test_a_day_delivered_again_under_other_values_warns(feed: Feed, tonight: Release) -> None:
    again = pq.read_table(feed.file(DAYS - 4))
    again = put(again, "title_id", pc.subtract(TITLES - 1, again["title_id"]))
    pq.write_table(again, feed.lake / "interactions" / "again.parquet")
    found = failed(feed.judge(tonight))
    assert found["hold"] == {}
    assert found["warn"]["past days were complete"][0].startswith("2026-06-21")


def test_future_dates_are_quarantined_and_what_is_missing_then_holds(feed: Feed, tonight: Release) -> None:
    rewrite(feed.file(DAYS - 1), later(9_000))
    held = failed(feed.judge(tonight))["hold"]
    assert count_by_reason(tonight) == {"event in the future": len(day_of(DAYS - 1))}
    assert list(held) == ["there are new events since the previous night"]


def test_more_future_dates_than_the_budget_stop_the_night(feed: Feed, tonight: Release) -> None:
    for number in (DAYS - 1, DAYS - 2):
        rewrite(feed.file(number), later(9_000))
    with pytest.raises(ContractError, match="future") as raised:
        feed.judge(tonight)
    assert raised.value.exit_code == 3
