"""The release beside the live one in the same space: a night changes little, and what it changes is news."""

from typing import Any

from validation.checks import Expectation, Level
from validation.config import DriftThresholds
from validation.suites import Suite

_KINDS = {
    "neighbours_beyond_chance": "expect_neighbours_to_be_kept",
    "neighbour_jaccard": "expect_neighbours_to_be_kept",
    "moved_share": "expect_titles_to_keep_their_places",
    "segment_moved_share": "expect_titles_to_keep_their_places",
    "swapped_titles": "expect_titles_to_keep_their_places",
    "member_identity": "expect_members_to_be_who_they_were",
}

_FINDINGS = {
    "neighbours_beyond_chance": "titles keep {:.1%} of their neighbours beyond what chance would keep",
    "neighbour_jaccard": "the overlap (Jaccard) of titles' neighbours with the live release's is {:.3f}",
    "moved_share": "{:.1%} of the titles moved",
    "segment_moved_share": "in one segment {:.1%} of the titles moved",
    "swapped_titles": "titles that changed places: {:,.0f}",
    "score_psi": "the population stability index of the scores is {:.3f}",
    "popularity_drop": "the rank correlation of scores and plays fell by {:.3f}",
    "member_identity": "{:.1%} of the members are closer to their own old vector than to another's",
    "members_norm_psi": "the population stability index of the members' norms is {:.3f}",
    "titles_norm_psi": "the population stability index of the titles' norms is {:.3f}",
}


def suite(figures: dict[str, Any], thresholds: DriftThresholds) -> Suite:
    """What is expected of the figures of `validation.drift`."""
    chance, warn_below = "min_neighbours_beyond_chance", "warn_neighbour_jaccard"
    swaps = Expectation(
        name="no two titles changed places",
        column="swapped_titles",
        kind=_KINDS["swapped_titles"],
        maximum=0,
        finding=_FINDINGS["swapped_titles"],
        reason="two titles at each other's place are two ids mixed up",
        examples=tuple(figures.get("swapped") or ())[:5],
    )
    expected = [
        _bound("titles keep some neighbours", "neighbours_beyond_chance", thresholds, low=chance),
        _bound("titles keep their neighbours", "neighbour_jaccard", thresholds, low=warn_below, level="warn"),
        _bound("few titles moved", "moved_share", thresholds, high="max_moved_share", level="warn"),
        swaps,
    ]
    if "segment_moved_share" in figures:
        expected.append(_segments(figures, thresholds))
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


def _segments(figures: dict[str, Any], thresholds: DriftThresholds) -> Expectation:
    """No genre and no third of the catalogue may leave its place unnoticed behind a healthy whole."""
    above = [entry for entry in figures["segments"] if entry["moved_share"] > thresholds.max_segment_moved_share]
    name, column = "no segment of titles moved away", "segment_moved_share"
    found = _bound(name, column, thresholds, high="max_segment_moved_share", level="warn")
    return found.with_examples(
        [f"{entry['segment']}: {entry['moved_share']:.0%} of {entry['titles']:,} titles" for entry in above]
    )


def _bound(
    name: str, column: str, thresholds: DriftThresholds, *, low: str = "", high: str = "", level: Level = "hold"
) -> Expectation:
    return Expectation(
        name=name,
        column=column,
        kind=_KINDS.get(column, ""),
        minimum=getattr(thresholds, low) if low else None,
        maximum=getattr(thresholds, high) if high else None,
        level=level,
        reason=thresholds.why(low or high),
        finding=_FINDINGS[column],
    )
