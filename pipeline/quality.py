"""How good a model is, as a table: the model beside what needs no model."""

from typing import Any

from pipeline.answer import table

FIGURES = ("hr@10", "ndcg@10", "coverage@10")


def quality_table(metrics: dict[str, Any]) -> str:
    """The figures of a model and of its `baselines`, one line each."""
    rows = [{"model": "this model", **_figures(metrics)}]
    rows += [{"model": name, **_figures(found)} for name, found in metrics["baselines"].items()]
    return table(rows)


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in FIGURES}
