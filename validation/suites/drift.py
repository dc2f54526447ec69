"""The release beside the live one in the same space: a night changes little, and what it changes is news."""

from typing import Any

from validation.checks import Expectation, Level
from validation.suites import Suite
from validation.thresholds import DriftThresholds


def suite(figures: dict[str, Any], thresholds: DriftThresholds) -> Suite:
    """What is expected of the figures of `validation.drift`."""
    chance, warn_below = "min_neighbours_beyond_chance", "warn_neighbour_jaccard"
    swaps = Expectation(
        name="no two titles changed places",
        column="swapped_titles",
        maximum=0,
        reason="two titles at each other's place are two ids mixed up",
        examples=tuple(figures.get("swapped") or ())[:5],
    )
    expected = [
        _bound("titles keep some neighbours", "neighbours_beyond_chance", thresholds, low=chance),
        _bound("titles keep their neighbours", "neighbour_jaccard", thresholds, low=warn_below, level="warn"),
        _bound("few titles moved", "moved_share", thresholds, high="max_moved_share", level="warn"),
        swaps,
    ]
    if "score_psi" in figures:
        expected += [
            _bound("scores are distributed as before", "score_psi", thresholds, high="max_score_psi", level="warn"),
            _bound("popular titles still score high", "popularity_drop", thresholds, high="max_popularity_drop"),
        ]
    if "member_identity" in figures:
        expected.append(_bound("members are who they were", "member_identity", thresholds, low="min_member_identity"))
    for side in ("members", "titles"):
        if f"{side}_norm_psi" in figures:
            name = f"norms of {side} are distributed as before"
            expected.append(_bound(name, f"{side}_norm_psi", thresholds, high="max_norm_psi", level="warn"))
    return figures, expected


def _bound(
    name: str, column: str, thresholds: DriftThresholds, *, low: str = "", high: str = "", level: Level = "hold"
) -> Expectation:
    return Expectation(
        name=name,
        column=column,
        minimum=getattr(thresholds, low) if low else None,
        maximum=getattr(thresholds, high) if high else None,
        level=level,
        reason=thresholds.why(low or high),
    )
