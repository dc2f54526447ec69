"""The indexes: what was measured of them when they were built."""

from typing import Any

from validation.checks import Expectation, Level
from validation.config import IndexThresholds
from validation.suites import Suite

NAMES = ("candidates", "similar")
_ENDS: tuple[tuple[str, Level], ...] = (("high", "hold"), ("low", "warn"))


def suite(metrics: dict[str, Any], titles: int, thresholds: IndexThresholds) -> Suite:
    """What is expected of the index stage's `metrics`, given the number of titles that were published."""
    figures: dict[str, Any] = {}
    expected: list[Expectation] = []
    for name in NAMES:
        measured = metrics.get(name) or {}
        kept = ("titles", "recall", "recall_low", "recall_high", "queries_per_second")
        figures |= {f"{name}_{figure}": measured.get(figure) for figure in kept}
        expected.append(_complete(name, titles))
        expected += _recall(name, measured.get("recall"), thresholds)
        expected.append(_fast(name, thresholds))
    return figures, expected


def _complete(name: str, titles: int) -> Expectation:
    return Expectation(
        name=f"{name} holds every title",
        column=f"{name}_titles",
        minimum=titles,
        maximum=titles,
        reason="a title that is not in the index is never found",
        finding=f"the {name} index holds {{:,.0f}} titles",
    )


def _recall(name: str, recall: float | None, thresholds: IndexThresholds) -> list[Expectation]:
    return [
        Expectation(
            name=f"{name} finds what an exact search finds",
            column=f"{name}_recall_{end}",
            minimum=thresholds.min_recall,
            level=level,
            reason=thresholds.why("min_recall"),
            finding=f"the {end}er end of the {name} index's recall interval is {{:.4f}}",
            examples=(f"measured recall {recall}",),
        )
        for end, level in _ENDS
    ]


def _fast(name: str, thresholds: IndexThresholds) -> Expectation:
    return Expectation(
        name=f"{name} answers in time",
        column=f"{name}_queries_per_second",
        minimum=thresholds.min_queries_per_second,
        level="warn",
        reason=thresholds.why("min_queries_per_second"),
        finding=f"the {name} index answers {{:,.0f}} queries a second",
    )
