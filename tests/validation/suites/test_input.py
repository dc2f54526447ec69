from typing import Any

import pytest

from stores.releases.release import StageReport
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_input

CONFIG = GateConfig()


def held(report: StageReport) -> list[str]:
    return [check.expectation for check in GateVerdict.of("gate", report.metrics).held]


def warned(report: StageReport) -> list[str]:
    return [check.expectation for check in GateVerdict.of("gate", report.metrics).warnings]


def histories(**changes: Any) -> Any:
    return lambda content: content["reports"]["histories"].update(changes)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"events_accepted": 0}, "there are events_accepted"),
        ({"members": 0}, "there are members"),
        ({"members": 120}, "members are as many as before"),
        ({"titles": 30}, "titles are as many as before"),
        ({"events_accepted": 5_000}, "events are as many as before"),
        ({"newest_event": "2026-08-20T00:00:00+00:00"}, "no event is later than the night"),
        ({"newest_event": "2026-07-21T23:00:00+00:00"}, "there are new events since the previous night"),
        ({"bad_fraction": None}, "bad_fraction is known"),
    ],
)
def test_a_bad_input_is_held_for_the_right_reason(live, changes, check):
    assert check in held(run_input(CONFIG, live.stage(histories(**changes))))


def test_many_refused_rows_warn_with_their_reasons(live):
    edit = histories(
        bad_fraction=0.03, refused={"event in the future": 2000, "unknown title": 5}, unreadable_files=["a"]
    )
    report = run_input(CONFIG, live.stage(edit))
    assert held(report) == []
    assert warned(report) == ["few rows are refused", "every file can be read"]
    refusals = next(check for check in report.metrics["checks"] if check["expectation"] == "few rows are refused")
    assert refusals["examples"] == ["event in the future: 2,000", "unknown title: 5"]


def test_an_unusual_number_of_new_events_warns(live):
    before = live.releases[-1].stage_report("histories").metrics["events_accepted"]
    report = run_input(GateConfig(input={"growth_nights": 2}), live.stage(histories(events_accepted=before + 9_000)))
    assert held(report) == []
    assert "a night adds as many events as nights do" in warned(report)


def test_an_archive_that_never_moves_only_warns(nights):
    old = histories(newest_event="1998-04-22T00:00:00+00:00")
    nights.seal(nights.stage(old))
    report = run_input(CONFIG, nights.stage(old))
    assert held(report) == []
    assert "there are new events since the previous night" in warned(report)


def test_the_same_moment_again_expects_nothing_new(nights):
    nights.seal(nights.stage())
    same = nights.stage(histories(**nights.releases[0].stage_report("histories").metrics))
    same.plan = same.plan.model_copy(update={"as_of": nights.releases[0].plan.as_of})
    report = run_input(CONFIG, same)
    assert held(report) == []
    assert "there are new events since the previous night" not in warned(report)


def test_a_missing_report_is_a_failed_check_that_names_it(live):
    def no_histories(content):
        content["reports"]["histories"] = None

    report = run_input(CONFIG, live.stage(no_histories))
    assert "there are members" in held(report)
    assert "not measured" in report.metrics["message"]
