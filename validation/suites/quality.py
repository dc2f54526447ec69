"""The model: it must be worth its vectors."""

from typing import Any

from validation.checks import Expectation, Level
from validation.suites import Suite
from validation.thresholds import QualityThresholds


def suite(figures: dict[str, Any], thresholds: QualityThresholds) -> Suite:
    """What is expected of the figures of `validation.model.quality`."""
    measured = Expectation(
        name="the model's quality was measured",
        column="ratio_to_popularity",
        level="warn",
        reason="a model brought along has no measurement of ours; evaluate it before trusting its vectors",
    )
    if "ratio_to_popularity" not in figures:
        return figures, [measured]
    example = f"HR@10 {figures['hit_rate']:.4f}, {figures['popularity']} {figures['popularity_hit_rate']:.4f}"
    levels: tuple[tuple[str, Level], ...] = (("min_ratio_to_popularity", "hold"), ("warn_ratio_to_popularity", "warn"))
    return figures, [
        measured,
        *(
            Expectation(
                name="the model finds more than popularity does",
                column="ratio_to_popularity",
                minimum=getattr(thresholds, name),
                level=level,
                reason=thresholds.why(name),
                examples=(example,),
            )
            for name, level in levels
        ),
    ]
