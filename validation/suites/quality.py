"""The model: it must be worth its vectors, and no worse than the live one.

Two measurements: the model's own on held-out titles (kept beside its weights), and the compare stage's,
which asks both models about events later than both trainings. Only the second compares two models question by
question; the first shows a broken one where a day has too few questions for that.
"""

from itertools import product
from typing import Any

from validation.checks import Expectation, Level
from validation.config import QualityThresholds
from validation.model_quality import apart
from validation.suites import Suite

NO_OTHER = ("the live release is of the same model", "there is no live model")
"""What the compare stage says where there are no two models, which is nothing to warn of."""
_OTHERS = {
    "current": ("the model finds what the live one finds", "min_share_of_current"),
    "own": (
        "the model finds of its own held-out titles what the live one found of its own",
        "min_own_share_of_current",
    ),
    "popular_7_days": ("the model finds more than the last week's favourites", "min_ratio_to_week"),
}


def suite(figures: dict[str, Any], thresholds: QualityThresholds) -> Suite:
    """Expectations of the figures of `validation.model_quality` and, under `compared`, of the model comparison."""
    compared = figures.get("compared") or {}
    flat = {name: value for name, value in figures.items() if name not in ("compared", "live")}
    expected = [_measured(), *_own(flat, thresholds), *_own_beside(flat, figures.get("live") or {}, thresholds)]
    if compared and compared.get("why") not in NO_OTHER:
        flat["questions_of_both"] = compared.get("questions")
        expected.append(_asked(compared, thresholds))
        if (compared.get("questions") or 0) >= thresholds.min_queries:
            expected += _beside(flat, compared["against"], thresholds)
            for name, slices in compared["slices"].items():
                asked = {k: v for k, v in slices.items() if v["questions"] >= thresholds.min_queries}
                expected += _beside(flat, asked, thresholds, name)
    return flat, expected


def _measured() -> Expectation:
    return Expectation(
        name="the model's quality was measured",
        column="ratio_to_popularity",
        level="warn",
        reason="a model brought along has no measurement of ours; evaluate it before trusting its vectors",
    )


def _own(figures: dict[str, Any], thresholds: QualityThresholds) -> list[Expectation]:
    if "ratio_to_popularity" not in figures:
        return []
    example = f"HR@10 {figures['hit_rate']:.4f}, {figures['popularity']} {figures['popularity_hit_rate']:.4f}"
    levels: tuple[tuple[str, Level], ...] = (("min_ratio_to_popularity", "hold"), ("warn_ratio_to_popularity", "warn"))
    return [
        Expectation(
            name="the model finds more than popularity does",
            column="ratio_to_popularity",
            minimum=getattr(thresholds, name),
            level=level,
            reason=thresholds.why(name),
            finding="the model's hit rate is {:.3f} times that of popularity",
            examples=(example,),
        )
        for name, level in levels
    ]


def _own_beside(flat: dict[str, Any], live: dict[str, Any], thresholds: QualityThresholds) -> list[Expectation]:
    """Where each model was asked enough questions of its own, for few members have yet watched after both trainings."""
    if min(flat.get("questions", 0), live.get("questions", 0)) < thresholds.min_queries:
        return []
    against = {"own": apart(flat, live, thresholds.min_own_share_of_current)}
    return _beside(flat, against, thresholds)


def _asked(compared: dict[str, Any], thresholds: QualityThresholds) -> Expectation:
    return Expectation(
        name="the model was compared with the live one",
        column="questions_of_both",
        minimum=thresholds.min_queries,
        level="warn",
        reason=thresholds.why("min_queries"),
        finding="both models were asked {:,.0f} questions",
        examples=(compared["why"],) if compared.get("why") else (),
    )


def _beside(
    flat: dict[str, Any], against: dict[str, Any], thresholds: QualityThresholds, slice_name: str = ""
) -> list[Expectation]:
    """A model that is surely worse is held, one that is probably worse is told of, as are slices.

    The end of an interval must reach zero.
    """
    ends: tuple[tuple[str, Level], ...] = (("high", "warn"),) if slice_name else (("highest", "hold"), ("high", "warn"))
    expected = []
    for (other, found), (end, level) in product(against.items(), ends):
        name, field = _OTHERS[other]
        column = "_".join(part for part in (slice_name, other, "difference", end) if part)
        flat[column] = found[end]
        rates = f"HR@10 {found['hit_rate']:.4f} beside {found['other_hit_rate']:.4f}"
        interval = f"{found['questions']:,} questions, difference {found['low']:+.4f} to {found['high']:+.4f}"
        if "ndcg" in found:
            interval += f"; NDCG {found['ndcg']:.4f} beside {found['other_ndcg']:.4f}, at most {found['highest']:+.4f}"
        expected.append(
            Expectation(
                name=f"{name} ({slice_name.replace('_', ' ')})" if slice_name else name,
                column=column,
                minimum=0,
                level=level,
                reason=thresholds.why(field),
                finding=_difference(end, found, other, getattr(thresholds, field)),
                examples=(f"{rates}, {interval}",),
            )
        )
    return expected


def _difference(end: str, found: dict[str, Any], other: str, share: float) -> str:
    """The upper end of an interval of the difference as a sentence, with what was measured and beside what."""
    measure = "NDCG" if end == "highest" and "ndcg" in found else "HR@10"
    beside = {"current": "the live model", "own": "the live model on its own questions"}.get(
        other, "last week's favourites"
    )
    return f"{measure} minus {share:g} of that of {beside} is {{:+.4f}} at the upper end of its interval"
