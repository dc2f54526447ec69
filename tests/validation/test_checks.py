"""A check that fails says what is wrong in a sentence with its unit, and which limit it is outside of."""

import pytest

from validation.checks import Check, Expectation
from validation.config import GateConfig
from validation.gx_gate import judge
from validation.job import run_index, run_input, run_vectors
from validation.suites import feed

AGE = "the newest event is {:,.4g} days old"


def check(observed: float | str | None, finding: str, **limits: object) -> Check:
    asked = Expectation(name="it holds", column="x", finding=finding, **limits)
    return judge("g", {"s": ({"x": observed}, [asked])}).checks[0]


@pytest.mark.parametrize(
    ("observed", "finding", "limits", "text"),
    [
        (334.0, AGE, {"maximum": 7.0}, "the newest event is 334 days old, limit 7"),
        (3.0, AGE, {"maximum": 7.0}, "the newest event is 3 days old"),
        (7.0000001, AGE, {"maximum": 7.0}, "the newest event is 7.0000001 days old, limit 7"),
        (0.034, "{:.2%} of the events are refused", {"maximum": 0.01}, "3.40% of the events are refused, limit 1.00%"),
        (0.79, "{:.1%} left", {"minimum": 0.8}, "79.0% left, at least 80.0%"),
        (0.79999, "{:.1%} left", {"minimum": 0.8}, "79.999% left, at least 80%"),
        (2, "widths: {:,.0f}", {"minimum": 1, "maximum": 1}, "widths: 2, expected 1"),
        (9, "times {}", {"minimum": 1, "maximum": 5}, "times 9, limit 5"),
        (0, "{:.4g} days later", {"minimum": 1e-9}, "0 days later, more than 0"),
        ("refused", "the outcome is {}", {"one_of": ("a", "b")}, "the outcome is refused, allowed a or b"),
        (None, AGE, {"maximum": 7.0}, "it holds: not measured"),
        (5, "", {"maximum": 1}, "it holds: found 5, allowed ≤ 1"),
    ],
)
def test_a_figure_is_explained_with_its_unit_and_limit(observed, finding, limits, text):
    assert check(observed, finding, **limits).explanation == text


def test_an_explanation_survives_the_manifest():
    found = check(334.0, AGE, maximum=7.0)
    assert Check.model_validate(found.model_dump(mode="json")).explanation == found.explanation
    assert found.asked.finding == AGE


def test_every_figure_of_the_feed_has_a_sentence():
    assert all("{:" in finding for finding in feed.FINDINGS.values())


def test_every_check_of_every_gate_says_what_is_wrong(live):
    counts = {"both": 60, "model": 200, "other": 40, "neither": 1700}
    compared = {"questions": 2000, "against": {"current": counts, "popular_7_days": counts}, "slices": {"new": {}}}

    def changed(content):
        content["model_id"] = "m2"
        content["reports"]["compare_models"] = compared
        content["reports"]["align"]["heldout_cosine_p50"] = 0.1

    release = live.stage(changed)
    reports = [run(GateConfig(), release) for run in (run_input, run_vectors, run_index)]
    checks = [Check.model_validate(entry) for report in reports for entry in report.metrics["checks"]]
    limited = [one for one in checks if (one.minimum, one.maximum, one.one_of) != (None, None, None)]
    assert len(limited) > 40
    assert [one.expectation for one in limited if not one.finding] == []
    for one in limited:
        assert "{" not in one.explanation
