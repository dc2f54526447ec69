"""A table of vectors, members' or titles': whose they are, and whether they can be what a model means."""

from typing import Any

from stores.settings import Settings
from validation.checks import Expectation, Level
from validation.config import VectorThresholds
from validation.suites import Suite

_KINDS = {
    "coverage": "expect_snapshot_to_be_covered",
    "unknown_ids": "expect_vectors_to_belong_to_their_ids",
    "repeated_ids": "expect_vectors_to_belong_to_their_ids",
    "null_ids": "expect_vectors_to_belong_to_their_ids",
    "agreement": "expect_vectors_to_belong_to_their_ids",
    "finite_share": "expect_vectors_to_be_finite",
    "width": "expect_vectors_to_have_the_width",
    "widths": "expect_vectors_to_have_the_width",
    "duplicate_share": "expect_vectors_to_span_the_space",
    "effective_rank": "expect_vectors_to_span_the_space",
    "rank_ratio": "expect_vectors_to_span_the_space",
}

_FINDINGS = {
    "coverage": "{:.2%} of the snapshot's SIDE have a vector",
    "unknown_ids": "vectors of SIDE that are not in the snapshot: {:,.0f}",
    "repeated_ids": "SIDE with more than one vector: {:,.0f}",
    "null_ids": "vectors of SIDE without an id: {:,.0f}",
    "agreement": "{:.2%} of the vectors of SIDE are of their own history or title",
    "finite_share": "{:.4%} of the vectors of SIDE are finite",
    "zero_share": "{:.2%} of the vectors of SIDE are zero",
    "width": "the vectors of SIDE have {:,.0f} dimensions",
    "widths": "different widths among the vectors of SIDE: {:,.0f}",
    "duplicate_share": "{:.1%} of the vectors of SIDE are duplicates",
    "effective_rank": "the effective rank of the vectors of SIDE is {:.3f}",
    "rank_ratio": "the effective rank of the vectors of SIDE is {:.1%} of the live release's",
    "norm_ratio": "the median norm of the vectors of SIDE is {:.4g} times the live release's",
    "fresh_share": "{:.1%} of the vectors of SIDE are of the new model",
}
"""The failure of each figure as a sentence; SIDE stands for members or titles."""


class Expected(Settings):
    """What is known of a side before looking: its width, its figures in the current release, a new model or not."""

    width: int | None
    before: dict[str, Any] | None
    new_model: bool


def suite(side: str, figures: dict[str, Any], expected: Expected, thresholds: VectorThresholds) -> Suite:
    """What is expected of the vectors of `side` ("members" or "titles"); columns get the side as prefix."""
    figures = dict(figures)
    if expected.before:
        figures["rank_ratio"] = _ratio(figures, expected.before, "effective_rank")
        figures["norm_ratio"] = _ratio(figures, expected.before, "norm_median")
    ask = _VectorExpectations(side, figures, thresholds)
    asked = _whose(ask) + _shape(ask, expected)
    if (figures.get("rows") or 0) >= thresholds.small_table:
        asked += _spread(ask, expected)
    if expected.new_model:
        asked.append(ask("are of the new model", "fresh_share", low="min_fresh_share"))
    return {f"{side}_{name}": value for name, value in figures.items()}, asked


class _VectorExpectations:
    """Makes expectations about the columns of one side; `low` and `high` name thresholds."""

    def __init__(self, side: str, figures: dict[str, Any], thresholds: VectorThresholds) -> None:
        self.side, self.thresholds = side, thresholds
        self.examples: dict[str, list[str]] = figures.get("id_examples") or {}
        self.not_finite: list[str] = figures.get("not_finite_ids") or []

    def __call__(
        self, what: str, column: str, *, low: str | None = None, high: str | None = None, level: Level = "hold"
    ) -> Expectation:
        reasons = [self.thresholds.why(name) for name in (low, high) if name]
        return Expectation(
            name=f"{self.side} {what}",
            column=f"{self.side}_{column}",
            kind=_KINDS.get(column, ""),
            minimum=getattr(self.thresholds, low) if low else None,
            maximum=getattr(self.thresholds, high) if high else None,
            level=level,
            reason="; ".join(reasons),
            finding=_FINDINGS[column].replace("SIDE", self.side),
        )

    def exactly(self, what: str, column: str, value: float, reason: str) -> Expectation:
        """An expectation of one value."""
        limits: dict[str, Any] = {"minimum": value, "maximum": value}
        return Expectation(
            name=f"{self.side} {what}",
            column=f"{self.side}_{column}",
            kind=_KINDS.get(column, ""),
            reason=reason,
            finding=_FINDINGS[column].replace("SIDE", self.side),
            **limits,
        )


def _whose(ask: _VectorExpectations) -> list[Expectation]:
    found = ask.examples
    once = "a key that is there twice has no one vector"
    return [
        ask("cover the snapshot", "coverage", low="min_coverage").with_examples(found.get("missing", [])),
        ask.exactly("are all in the snapshot", "unknown_ids", 0, "nothing may be published for an id nobody knows")
        .with_examples(found.get("unknown", [])),
        ask.exactly("are there once each", "repeated_ids", 0, once).with_examples(found.get("twice", [])),
        ask.exactly("have an id", "null_ids", 0, "a vector of nobody cannot be looked up"),
        ask("belong to their ids", "agreement", low="min_agreement").with_examples(found.get("other", [])),
    ]  # fmt: skip


def _shape(ask: _VectorExpectations, expected: Expected) -> list[Expectation]:
    one = "consumers hold weights of one width"
    nan = "one NaN spoils every score it meets"
    asked = [
        ask.exactly("are finite", "finite_share", 1, nan).with_examples(ask.not_finite),
        ask("are rarely zero", "zero_share", high="max_zero_share", level="warn"),
    ]
    if expected.width is not None:
        return [*asked, ask.exactly("have the width of the space", "width", expected.width, one)]
    return [*asked, ask.exactly("have one width", "widths", 1, one)]


def _spread(ask: _VectorExpectations, expected: Expected) -> list[Expectation]:
    # Millions of members who saw one title each are rightly alike; titles are not.
    level: Level = "hold" if ask.side == "titles" else "warn"
    asked = [
        ask("are different vectors", "duplicate_share", high="max_duplicate_share", level=level),
        ask("span the space", "effective_rank", low="min_effective_rank"),
    ]
    if expected.before:
        largest = ask.thresholds.max_norm_ratio
        norms = ask("have norms as before", "norm_ratio", high="max_norm_ratio")
        asked.append(norms.model_copy(update={"minimum": 1 / largest}))
        asked.append(ask("span as much as before", "rank_ratio", low="min_rank_ratio", level="warn"))
    return asked


def _ratio(now: dict[str, Any], before: dict[str, Any], name: str) -> float | None:
    new, old = now.get(name), before.get(name)
    return new / old if new is not None and old else None
