"""The corpus of bad nights: each is held, or its rows are quarantined, for the right named reason.

Twenty healthy nights that raise no alarm are in `test_healthy_nights.py`, faults of a real lake in `test_bad_feeds.py`.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig, run
from stores.errors import ContractError
from stores.lake.scan import ScanConfig
from stores.releases.dead_letter import count_by_reason
from stores.releases.release import Plan, Release
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_input, run_vectors

CONFIG = GateConfig()


def nan_vectors(content):
    content["members"][[3, 5]] = np.nan


def collapsed_model(content):
    for side in ("members", "titles"):
        content[side][:] = content[side][0]


def wrong_width(content):
    for side in ("members", "titles"):
        content[side] = content[side][:, :6]


def half_the_titles(content):
    content["drop_titles"] = 30


def member_ids_shifted_after_encoding(content):
    content["member_ids"] = content["member_ids"] + 3


def member_ids_shifted_in_the_lake(content):
    """Histories and vectors agree with each other, but everyone is somebody else than yesterday."""
    content["members"] = np.roll(content["members"], 1, axis=0)


def yesterdays_file_again(content):
    content["reports"]["histories"]["newest_event"] = "2026-07-21T23:00:00+00:00"


def minutes_for_seconds(content):
    content["reports"]["histories"]["profile"]["last_day"]["durations"]["play"]["median_s"] /= 60


def one_country_missing(content):
    last = content["reports"]["histories"]["profile"]["last_day"]
    last["events"] -= last["countries"].pop("US")


def shuffled_titles(content):
    content["titles"] = np.random.default_rng(1).permutation(content["titles"])


def untrained_model(content):
    rng = np.random.default_rng(2)
    content["model_id"] = "m2"
    for side in ("members", "titles"):
        content[side] = rng.normal(size=content[side].shape)


def worse_model(content):
    """One that still looks like yesterday's, but finds less of what members went on to watch."""
    week = {"both": 60, "model": 200, "other": 40, "neither": 1700}
    current = {"both": 200, "model": 60, "other": 170, "neither": 1570}
    against = {"current": current, "popular_7_days": week}
    content["reports"]["compare_models"] = {"questions": 2000, "against": against, "slices": {}}


def two_titles_swapped(content):
    content["titles"][[4, 9]] = content["titles"][[9, 4]]


def popularity_inverted(content):
    content["members"] = -content["members"]


NIGHTS = [
    (nan_vectors, run_vectors, "members are finite"),
    (collapsed_model, run_vectors, "titles span the space"),
    (wrong_width, run_vectors, "members have the width of the space"),
    (half_the_titles, run_vectors, "titles cover the snapshot"),
    (member_ids_shifted_after_encoding, run_vectors, "members belong to their ids"),
    (member_ids_shifted_in_the_lake, run_vectors, "members are who they were"),
    (yesterdays_file_again, run_input, "there are new events since the previous night"),
    (minutes_for_seconds, run_input, "durations are in the unit they were in"),
    (one_country_missing, run_input, "no country fell silent"),
    (shuffled_titles, run_vectors, "titles keep some neighbours"),
    (untrained_model, run_vectors, "titles keep some neighbours"),
    (worse_model, run_vectors, "the model finds what the live one finds"),
    (two_titles_swapped, run_vectors, "no two titles changed places"),
    (popularity_inverted, run_vectors, "popular titles still score high"),
]


@pytest.mark.parametrize(("spoil", "gate", "reason"), NIGHTS, ids=[spoil.__name__ for spoil, _, _ in NIGHTS])
def test_a_bad_night_is_held_for_the_right_reason(live, spoil, gate, reason):
    report = gate(CONFIG, live.stage(spoil))
    held = {check.expectation: check for check in GateVerdict.of("gate", report.metrics).held}
    assert reason in held
    assert str(held[reason]) in report.metrics["failed"]
    assert f"observed {'not measured' if held[reason].observed is None else ''}" in str(held[reason])
    assert f"allowed {held[reason].allowed}" in report.metrics["message"]


# --- nights whose rows never get as far as a gate

AS_OF = datetime(2026, 7, 11, tzinfo=UTC)
DAYS, PER_DAY = 10, 40
TIME = pa.timestamp("us", tz="UTC")


def lake(folder, rows):
    """A lake with these interactions and all the titles that they name."""
    table = pa.Table.from_pylist(rows).cast(
        pa.schema([("member_id", pa.int64()), ("title_id", pa.int64()), ("event_time", TIME), ("action", pa.string())])
    )
    titles = pa.table({"title_id": pa.array(range(9), pa.int64())})
    for name, part in (("interactions", table), ("titles", titles)):
        (folder / name).mkdir(parents=True)
        pq.write_table(part, folder / name / "part-0.parquet")
    return str(folder)


def days():
    return [
        {
            "member_id": at % 7,
            "title_id": at % 9,
            "event_time": AS_OF - timedelta(days=day, minutes=10 * at + 1),
            "action": "play",
        }
        for day in range(DAYS)
        for at in range(PER_DAY)
    ]


def duplicated_day(rows):
    return [*rows, *rows[:PER_DAY]]


def future_dates(rows):
    return [
        {**row, "event_time": row["event_time"] + timedelta(days=9_000)} if at < PER_DAY else row
        for at, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("spoil", "reason", "accepted"),
    [
        (duplicated_day, "duplicate", DAYS * PER_DAY),
        (future_dates, "event in the future", (DAYS - 1) * PER_DAY),
    ],
)
def test_bad_rows_are_quarantined_and_too_many_stop_the_night(tmp_path, spoil, reason, accepted):
    place = lake(tmp_path / "lake", spoil(days()))
    release = Release(str(tmp_path / "workspace"), "20260711T000000Z-0000")
    facts = {"release_id": release.release_id, "plan_hash": "0", "lake": place, "model_id": "m", "space_id": "1"}
    release.plan = Plan(
        **facts, as_of=AS_OF, created_at=AS_OF, reference_release=None, previous_release=None, shards=1, config={}
    )
    lenient = HistoriesConfig(scan=ScanConfig(threads=1), max_bad_fraction=0.2)
    report = run(lenient, release)
    assert report.metrics["refused"] == count_by_reason(release) == {reason: PER_DAY}
    assert report.metrics["events_accepted"] == accepted
    with pytest.raises(ContractError, match=reason) as raised:
        run(HistoriesConfig(scan=ScanConfig(threads=1)), release)
    assert raised.value.exit_code == 3
