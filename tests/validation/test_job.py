import json

import numpy as np
import pytest

from stores.releases.release import Release, StageReport
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_index, run_input, run_vectors

CONFIG = GateConfig()


def held(report: StageReport) -> list[str]:
    return [check.expectation for check in GateVerdict.of("gate", report.metrics).held]


def warned(report: StageReport) -> list[str]:
    return [check.expectation for check in GateVerdict.of("gate", report.metrics).warnings]


def test_a_first_night_passes_every_gate(nights):
    release = nights.stage()
    for stage in (run_input, run_vectors, run_index):
        assert held(stage(CONFIG, release)) == []


def nan_vectors(content):
    content["members"][[3, 5]] = np.nan


def collapsed(content):
    for side in ("members", "titles"):
        content[side][:] = content[side][0]


def one_line(content):
    content["members"] = content["members"][:, :1] * np.ones(8) + 1e-6 * content["members"]


def wrong_width(content):
    for side in ("members", "titles"):
        content[side] = content[side][:, :6]


def half_the_titles(content):
    content["drop_titles"] = 30


def half_the_members(content):
    content["drop_members"] = 120


def shifted_ids(content):
    content["member_ids"] = content["member_ids"] + 3


def doubled_id(content):
    content["member_ids"] = content["member_ids"].copy()
    content["member_ids"][3] = 0


def other_names(content):
    content["title_ids"] = np.roll(content["title_ids"], 1)


def other_units(content):
    content["members"] = content["members"] * 60


def zeros(content):
    content["members"][::4] = 0


def yesterdays_vectors(content):
    content["model_id"], content["vectors_of"] = "m2", "20260722T020000Z-0002"


def shuffled_titles(content):
    content["titles"] = np.random.default_rng(1).permutation(content["titles"])


def swapped_titles(content):
    content["titles"][[4, 9]] = content["titles"][[9, 4]]


def inverted_popularity(content):
    content["members"] = -content["members"]


@pytest.mark.parametrize(
    ("edit", "check", "example"),
    [
        (nan_vectors, "members are finite", "3"),
        (collapsed, "members span the space", ""),
        (collapsed, "titles are different vectors", ""),
        (one_line, "members span the space", ""),
        (wrong_width, "titles have the width of the space", ""),
        (half_the_titles, "titles cover the snapshot", "30"),
        (half_the_members, "members cover the snapshot", "120"),
        (shifted_ids, "members belong to their ids", "3"),
        (doubled_id, "members are there once each", "0"),
        (other_names, "titles belong to their ids", "0"),
        (other_units, "members have norms as before", ""),
        (yesterdays_vectors, "members are of the new model", ""),
        (shuffled_titles, "titles keep some neighbours", ""),
        (swapped_titles, "no two titles changed places", "Title 4 ↔ Title 9"),
        (inverted_popularity, "popular titles still score high", ""),
    ],
)
def test_bad_vectors_are_held_for_the_right_reason(live, edit, check, example):
    release = live.stage(edit)
    report = run_vectors(CONFIG, release)
    assert check in held(report)
    if example:
        assert example in next(c for c in report.metrics["checks"] if c["expectation"] == check)["examples"]


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (zeros, "members are rarely zero"),
        (collapsed, "members are different vectors"),
        (one_line, "members span as much as before"),
        (other_units, "norms of members are distributed as before"),
    ],
)
def test_doubtful_vectors_warn(live, edit, check):
    assert check in warned(run_vectors(CONFIG, live.stage(edit)))


def test_a_report_says_the_same_in_every_way(live):
    metrics = run_vectors(CONFIG, live.stage(collapsed)).metrics
    assert metrics["passed"] is False
    assert len(metrics["failed"]) == len(GateVerdict.of("gate", metrics).held) > 1
    assert all(line in metrics["message"] for line in metrics["failed"])
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"outcome": "refused", "reasons": ["held-out cosine 0.1"]}, "the space is the same or announced as new"),
        ({"outcome": None}, "the space is the same or announced as new"),
        ({"outcome": "new_space"}, "the number of the space says so"),
        ({"space_id": "2"}, "the number of the space says so"),
    ],
)
def test_a_space_that_is_not_what_it_says_is_held(live, changes, check):
    release = live.stage(lambda content: content["reports"]["align"].update(changes))
    report = run_vectors(CONFIG, release)
    assert check in held(report)
    assert all(reason in report.metrics["message"] for reason in changes.get("reasons", []))


def test_a_refused_space_is_not_measured_further(live):
    release = live.stage(lambda content: content["reports"]["align"].update(outcome="refused"))
    assert held(run_vectors(CONFIG, release)) == ["the space is the same or announced as new"]


def test_an_announced_new_space_is_compared_with_nothing_old(live):
    def announced(content):
        content["reports"]["align"].update(outcome="new_space", space_id="2")
        shuffled_titles(content)

    assert held(run_vectors(CONFIG, live.stage(announced))) == []


def model_metrics(release: Release, text: str) -> None:
    (release.storage.local().parents[1] / "models" / "m1").mkdir(parents=True, exist_ok=True)
    (release.storage.local().parents[1] / "models" / "m1" / "metrics.json").write_text(text)


@pytest.mark.parametrize(
    ("rate", "expected", "warnings"),
    [
        (0.01, ["the model finds more than popularity does"], ["the model finds more than popularity does"]),
        (0.095, [], ["the model finds more than popularity does"]),
        (0.2, [], []),
    ],
)
def test_a_model_below_popularity_is_held(nights, rate, expected, warnings):
    release = nights.stage()
    baselines = {"popularity": {"hr@10": 0.1}, "item_knn": {"hr@10": 0.5}}
    model_metrics(release, json.dumps({"hr@10": rate, "baselines": baselines}))
    report = run_vectors(CONFIG, release)
    assert held(report) == expected
    assert warned(report) == warnings


def index(name, **changes):
    return lambda content: content["reports"]["index"][name].update(changes)


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (
            index("candidates", recall=0.9, recall_low=0.88, recall_high=0.92),
            "candidates finds what an exact search finds",
        ),
        (index("similar", recall=None, recall_low=None, recall_high=None), "similar finds what an exact search finds"),
        (index("similar", titles=59), "similar holds every title"),
    ],
)
def test_a_bad_index_is_held(live, edit, check):
    assert check in held(run_index(CONFIG, live.stage(edit)))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"recall_low": 0.98}, "similar finds what an exact search finds"),
        ({"queries_per_second": 3.0}, "similar answers in time"),
    ],
)
def test_a_doubtful_index_warns(live, changes, check):
    report = run_index(CONFIG, live.stage(index("similar", **changes)))
    assert held(report) == []
    assert warned(report) == [check]
