"""What is known of the quality of a release's model: measured when it was trained, kept beside its weights."""

import json
from typing import Any

from stores.errors import CorruptError
from stores.release import Release
from stores.storage import Storage
from stores.workspace import MODELS

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
    storage = Storage(workspace_uri).below(MODELS, model_id)
    if not storage.exists(MEASURED):
        return {}
    try:
        measured: dict[str, Any] = dict(json.loads(storage.read(MEASURED)))
    except (ValueError, TypeError) as error:
        what = f"{MEASURED} is no JSON object: {error}"
        raise CorruptError(what, where=storage.uri, fix="train the model again") from error
    return measured
