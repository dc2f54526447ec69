"""Quality of a release's model: measured at training, and compared with the live model on unseen events."""

import json
from math import sqrt
from typing import Any

from stores.errors import CorruptError
from stores.files.filesystem import Storage
from stores.releases.release import Release
from stores.releases.workspace import MODELS
from validation.config import QualityThresholds

MEASURED = "metrics.json"
HIT_RATE = "hr@10"
QUESTIONS = "questions"


def quality(release: Release) -> dict[str, Any]:
    """The hit rate at 10 of the release's model, that of the best popularity baseline, and their ratio.

    By the model's own measurement on held-out targets, of which `questions` says how many; a figure that was not
    measured is absent. Raises CorruptError for a measurement that is no JSON object.
    """
    measured = _measured(release.workspace_uri, release.plan.model_id)
    found: dict[str, Any] = {}
    if HIT_RATE in measured:
        found["hit_rate"] = measured[HIT_RATE]
        found |= {QUESTIONS: measured[QUESTIONS]} if QUESTIONS in measured else {}
        baselines = measured.get("baselines") or {}
        found["baselines"] = {name: figures[HIT_RATE] for name, figures in baselines.items() if HIT_RATE in figures}
        rates = {name: rate for name, rate in found["baselines"].items() if name.startswith("popular") and rate}
        if rates:
            found["popularity"] = max(rates, key=lambda name: rates[name])
            found["popularity_hit_rate"] = max(rates.values())
            found["ratio_to_popularity"] = found["hit_rate"] / found["popularity_hit_rate"]
    return found


def _measured(workspace_uri: str, model_id: str) -> dict[str, Any]:
    storage = Storage(workspace_uri).subfolder(MODELS, model_id)
    if not storage.exists(MEASURED):
        return {}
    try:
        measured: dict[str, Any] = dict(json.loads(storage.read(MEASURED)))
    except (ValueError, TypeError) as error:
        what = f"{MEASURED} is no JSON object: {error}"
        raise CorruptError(what, where=storage.uri, fix="train the model again") from error
    return measured


Z, SURELY = 1.96, 3.09
"""Standard errors of an interval that is told, and of what holds a night: one healthy model of 1,000, not of 40."""


def difference(counts: dict[str, Any], share: float) -> dict[str, float]:
    """Questions, both hit rates, the mean difference, its 95 % interval (`low`, `high`), and `highest`.

    With `highest` below zero the model is surely worse. Where `counts` has the moments of gains, `highest` is theirs,
    beside `ndcg` and `other_ndcg`. The variance of hits counts one half of a question of either kind more than there
    were, so that a handful of equal answers is not taken for certainty.
    """
    n = sum(counts[name] for name in ("both", "model", "other", "neither"))
    if not n:
        return {"questions": 0}
    both, model, other = (counts[name] / n for name in ("both", "model", "other"))
    mean = both * (1 - share) + model - other * share
    padded = n + 1
    up, down = (counts["model"] + 0.5) / padded, (counts["other"] + 0.5) / padded
    kept = counts["both"] / padded
    centre = kept * (1 - share) + up - down * share
    variance = kept * (1 - share) ** 2 + up + down * share**2 - centre**2
    rates = {"hit_rate": both + model, "other_hit_rate": both + other}
    found = {"questions": n, **rates, **_interval(mean, sqrt(max(variance, 0.0) / n))}
    return found | (_of_gains(counts["gains"], n, share) if counts.get("gains") else {})


def _of_gains(gains: dict[str, float], n: int, share: float) -> dict[str, float]:
    mean = gains["model"] - share * gains["other"]
    squares = gains["model_squared"] - 2 * share * gains["product"] + share**2 * gains["other_squared"]
    highest = _interval(mean, sqrt(max(squares - mean**2, 0.0) / n))["highest"]
    return {"ndcg": gains["model"], "other_ndcg": gains["other"], "highest": highest}


def apart(model: dict[str, Any], other: dict[str, Any], share: float) -> dict[str, Any]:
    """The same of two models by `hit_rate` and `questions` of each.

    Variances are those of Agresti and Coull (1998): two hits and two misses more than there were.
    """
    variance = 0.0
    for rated, weight in ((model, 1.0), (other, share)):
        n = rated["questions"] + 4
        rate = (rated["hit_rate"] * rated["questions"] + 2) / n
        variance += weight**2 * rate * (1 - rate) / n
    rates = {"hit_rate": model["hit_rate"], "other_hit_rate": other["hit_rate"]}
    found = _interval(model["hit_rate"] - share * other["hit_rate"], sqrt(variance))
    return {"questions": min(model["questions"], other["questions"]), **rates, **found}


def _interval(mean: float, error: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - Z * error, "high": mean + Z * error, "highest": mean + SURELY * error}


def paired_metrics(metrics: dict[str, Any], thresholds: QualityThresholds) -> dict[str, Any]:
    """The compare stage's metrics as figures of the quality suite."""
    found: dict[str, Any] = {"questions": metrics.get("questions"), "why": metrics.get("why")}
    shares = {"current": thresholds.min_share_of_current, "popular_7_days": thresholds.min_ratio_to_week}
    found["against"] = {name: difference(counts, shares[name]) for name, counts in _of(metrics.get("against"))}
    found["slices"] = {
        name: {other: difference(counts, shares[other]) for other, counts in _of(slices)}
        for name, slices in _of(metrics.get("slices"))
    }
    return found


def _of(entries: dict[str, Any] | None) -> list[tuple[str, Any]]:
    return list((entries or {}).items())
