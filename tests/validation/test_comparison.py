import numpy as np
import pytest

from validation.config import QualityThresholds
from validation.model_quality import apart, difference, paired_metrics


def counts(both=0, model=0, other=0, neither=0):
    return {"both": both, "model": model, "other": other, "neither": neither}


def test_the_difference_is_that_of_the_questions_one_by_one():
    rng = np.random.default_rng(0)
    mine, theirs = rng.random(5000) < 0.3, rng.random(5000) < 0.25
    share = 0.97
    each = mine - share * theirs
    found = difference(
        counts((mine & theirs).sum(), (mine & ~theirs).sum(), (~mine & theirs).sum(), (~mine & ~theirs).sum()), share
    )
    assert found["mean"] == pytest.approx(each.mean())
    assert found["high"] - found["mean"] == pytest.approx(1.96 * each.std() / np.sqrt(5000), rel=0.01)
    assert found["hit_rate"] == pytest.approx(mine.mean())
    assert found["other_hit_rate"] == pytest.approx(theirs.mean())


def test_what_is_surely_less_is_told_by_the_gains_one_by_one():
    rng = np.random.default_rng(3)
    mine, theirs = rng.random(900), rng.random(900)
    means = {"model": mine, "other": theirs, "model_squared": mine**2, "other_squared": theirs**2}
    gains = {name: float(each.mean()) for name, each in {**means, "product": mine * theirs}.items()}
    found = difference({**counts(both=300, other=600), "gains": gains}, 0.97)
    each = mine - 0.97 * theirs
    assert found["highest"] == pytest.approx(each.mean() + 3.09 * each.std() / 30)
    assert (found["ndcg"], found["other_ndcg"]) == (gains["model"], gains["other"])
    assert found["high"] < 0 < found["highest"]


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    chances = np.array([0.1, 0.04, 0.04, 0.82])
    found = [difference(counts(*rng.multinomial(400, chances)), 1.0) for _ in range(800)]
    assert np.mean([f["low"] <= 0 <= f["high"] for f in found]) > 0.93


def test_equal_answers_are_no_certainty_and_no_answers_no_figure():
    assert difference(counts(neither=3), 1.0)["high"] > 0
    assert difference(counts(other=1), 1.0)["high"] > -1
    assert difference(counts(), 1.0) == {"questions": 0}


def test_the_margin_is_for_the_live_model_only():
    same = counts(both=100, neither=100)
    metrics = {"questions": 200, "against": {"current": same, "popular_7_days": same}, "slices": {}}
    found = paired_metrics(metrics, QualityThresholds())["against"]
    assert found["current"]["mean"] == pytest.approx(0.015)
    assert found["popular_7_days"]["mean"] == 0


def test_rates_of_different_questions_are_apart_by_both_their_errors():
    rng = np.random.default_rng(2)
    found = [
        apart(
            {"hit_rate": rng.binomial(300, 0.24) / 300, "questions": 300},
            {"hit_rate": rng.binomial(500, 0.3) / 500, "questions": 500},
            0.8,
        )
        for _ in range(800)
    ]
    assert 0.93 < np.mean([f["low"] <= 0 <= f["high"] for f in found]) < 0.98
    assert apart({"hit_rate": 0.0, "questions": 3}, {"hit_rate": 0.0, "questions": 3}, 0.8)["high"] > 0.2
