import json
from pathlib import Path

import pytest

from stores.releases.release import StageReport
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_vectors

CONFIG = GateConfig()
LIVE, WEEK = "the model finds what the live one finds", "the model finds more than the last week's favourites"
OWN = "the model finds of its own held-out titles what the live one found of its own"
ASKED = "the model was compared with the live one"


def counts(both=0, model=0, other=0, neither=0):
    return {"both": both, "model": model, "other": other, "neither": neither}


def compared(current, week=None, **slices):
    """A compare stage's report; the week's favourites find hardly anything unless something else is said."""
    against = {"current": current, "popular_7_days": week or counts(both=1, model=300, neither=1700)}
    named = {name: {"current": found} for name, found in slices.items()}
    metrics = {"questions": sum(current.values()), "against": against, "slices": named}
    return lambda content: content["reports"].update(compare_models=metrics)


def failed(report: StageReport, level: str) -> list[str]:
    checks = GateVerdict.of("gate", report.metrics).checks
    return [check.expectation for check in checks if not check.passed and check.level == level]


WORSE = counts(both=250, model=20, other=120, neither=1610)
CHANCE = counts(both=250, model=60, other=70, neither=1620)
UNTRAINED = counts(both=2, model=3, other=400, neither=1595)


@pytest.mark.parametrize(
    ("edit", "held"),
    [
        (compared(WORSE), [LIVE]),
        (compared(CHANCE), []),
        (compared(counts(both=250, model=120, other=20, neither=1610)), []),
        (compared(UNTRAINED, counts(both=2, model=3, other=100, neither=1895)), [LIVE, WEEK]),
        (compared(CHANCE, counts(both=100, model=210, other=330, neither=1360)), [WEEK]),
    ],
)
def test_only_a_model_that_is_surely_worse_is_held(live, edit, held):
    report = run_vectors(CONFIG, live.stage(edit))
    assert failed(report, "hold") == held
    assert ASKED not in failed(report, "warn")
    named = {c["expectation"]: c["examples"] for c in report.metrics["checks"]}
    assert all("HR@10" in named[name][0] for name in held)


@pytest.mark.parametrize(("ndcg", "held"), [(0.466, []), (0.418, [LIVE])])
def test_a_model_that_hits_less_is_held_only_if_it_ranks_worse(live, ndcg, held):
    """Of seeds alone: 225 questions, HR@10 .444 beside .520, NDCG .466 beside .467."""
    spread = {"model_squared": ndcg**2 + 0.1, "other_squared": 0.467**2 + 0.1, "product": ndcg * 0.467 + 0.097}
    hits = counts(both=99, model=1, other=18, neither=107)
    edit = compared(hits)

    def with_gains(content):
        edit(content)
        content["reports"]["compare_models"]["against"]["current"] = {
            **hits,
            "gains": {"model": ndcg, "other": 0.467, **spread},
        }

    report = run_vectors(CONFIG, live.stage(with_gains))
    assert failed(report, "hold") == held
    assert LIVE in failed(report, "warn")


def test_few_questions_warn_and_hold_nothing(live):
    report = run_vectors(CONFIG, live.stage(compared(counts(other=50))))
    assert failed(report, "hold") == []
    assert ASKED in failed(report, "warn")


def test_a_bad_slice_warns(live):
    slices = {"new_members": WORSE, "tail_titles": counts(other=9)}
    report = run_vectors(CONFIG, live.stage(compared(CHANCE, **slices)))
    assert failed(report, "hold") == []
    assert f"{LIVE} (new members)" in failed(report, "warn")
    assert f"{LIVE} (tail titles)" not in failed(report, "warn")


@pytest.mark.parametrize(
    ("why", "warns"),
    [
        ("the live release is of the same model", False),
        ("there is no live model", False),
        ("no such event", True),
    ],
)
def test_what_could_not_be_asked_warns_unless_there_is_one_model(live, why, warns):
    edit = {"compare_models": {"questions": 0, "why": why}}
    report = run_vectors(CONFIG, live.stage(lambda content: content["reports"].update(edit)))
    assert failed(report, "hold") == []
    assert (ASKED in failed(report, "warn")) == warns


def test_a_model_that_is_probably_worse_warns(live):
    """In the tail of one healthy night of forty: 168 questions, .458 beside .518."""
    report = run_vectors(CONFIG, live.stage(compared(counts(both=75, model=2, other=12, neither=79))))
    assert failed(report, "hold") == []
    assert LIVE in failed(report, "warn")


@pytest.mark.parametrize(
    ("rate", "questions", "held"), [(0.26, 600, [OWN]), (0.36, 600, []), (0.4, 600, []), (0.26, 90, [])]
)
def test_a_broken_model_is_held_by_its_own_questions_where_a_day_has_few(live, rate, questions, held):
    def trained_anew(content):
        content["model_id"] = "m2"
        compared(counts(other=9, both=2, model=4, neither=26))(content)
        for model, found, asked in (("m1", 0.47, 600), ("m2", rate, questions)):
            facts = {"hr@10": found, "questions": asked, "baselines": {"popularity": {"hr@10": 0.1}}}
            folder = Path(live.uri) / "models" / model
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps(facts))

    assert failed(run_vectors(CONFIG, live.stage(trained_anew)), "hold") == held


def test_a_damaged_measurement_of_the_live_model_holds_no_better_one_up(live):
    (live_model := Path(live.uri) / "models" / "m1").mkdir(parents=True, exist_ok=True)
    (live_model / "metrics.json").write_text('{"hr@10": ')
    release = live.stage(lambda content: content.update(model_id="m3"))
    try:
        assert failed(run_vectors(CONFIG, release), "hold") == []
    finally:
        (live_model / "metrics.json").unlink()
