from typing import Any

import pytest

from stores.releases.release import StageReport
from validation.checks import GateVerdict
from validation.config import GateConfig, InputThresholds
from validation.job import run_input
from validation.suites.feed import suite

CONFIG = GateConfig()


def failed(report: StageReport, level: str) -> dict[str, tuple[str, ...]]:
    checks = GateVerdict.of("gate", report.metrics).checks
    return {check.expectation: check.examples for check in checks if not check.passed and check.level == level}


def minutes_for_seconds(profile: dict[str, Any]) -> None:
    profile["last_day"]["durations"]["play"]["median_s"] /= 60


def milliseconds_for_seconds(profile: dict[str, Any]) -> None:
    profile["last_day"]["durations"]["play"]["median_s"] *= 1000


def one_country_missing_tonight(profile: dict[str, Any]) -> None:
    profile["last_day"]["events"] -= profile["last_day"]["countries"].pop("BR")


def one_country_missing_altogether(profile: dict[str, Any]) -> None:
    del profile["countries"]["BR"]


def a_lost_day(profile: dict[str, Any]) -> None:
    del profile["days"][sorted(profile["days"])[5]]


def a_day_twice(profile: dict[str, Any]) -> None:
    profile["days"][sorted(profile["days"])[5]] *= 2


@pytest.mark.parametrize(
    ("spoil", "check", "example"),
    [
        (minutes_for_seconds, "durations are in the unit they were in", "play: median"),
        (milliseconds_for_seconds, "durations are in the unit they were in", "play: median"),
        (one_country_missing_tonight, "no country fell silent", "BR: 0 events"),
        (one_country_missing_altogether, "countries keep their events", "BR: 0 events"),
        (a_lost_day, "past days keep their events", "2026-07-15: 0 events"),
    ],
)
def test_a_spoilt_feed_is_held_for_the_right_reason(live, spoil, check, example):
    release = live.stage(lambda content: spoil(content["reports"]["histories"]["profile"]))
    held = failed(run_input(CONFIG, release), "hold")
    assert list(held) == [check]
    assert held[check][0].startswith(example)


def test_a_day_that_was_delivered_again_under_other_values_warns(live):
    report = run_input(CONFIG, live.stage(lambda content: a_day_twice(content["reports"]["histories"]["profile"])))
    assert failed(report, "hold") == {}
    assert "past days were complete" in failed(report, "warn")


def test_what_is_small_or_unknown_is_not_compared():
    small = {"events": 99, "countries": {"NZ": 99}, "durations": {"play": {"median_s": 60.0, "count": 99}}}
    before = {"days": {"2026-07-01": 99, "2026-07-02": 5}, "countries": {"NZ": 99}, "last_day": small}
    nothing = {"days": {}, "countries": {}, "last_day": {"events": 0, "countries": {}, "durations": {}}}
    for tonight, earlier in ((nothing, [before]), (before, []), (before, [{}]), ({}, [before])):
        assert suite(tonight, earlier, InputThresholds()) == ({}, [])


def test_a_day_beyond_what_tonight_reports_is_not_lost():
    last = {"events": 0, "countries": {}, "durations": {}}
    before = {"days": {"2026-06-01": 500, "2026-07-01": 500, "2026-07-02": 9}, "countries": {}, "last_day": last}
    figures, _ = suite({**before, "days": {"2026-07-01": 500, "2026-07-20": 5}}, [before], InputThresholds())
    assert figures == {"lowest_day_ratio": 1.0, "highest_day_ratio": 1.0}
