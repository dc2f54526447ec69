"""The space: the alignment's own verdict, and that the number of the space says what was decided."""

from typing import Any

from stores.releases.release import Plan
from validation.checks import Expectation, few
from validation.config import AlignmentThresholds
from validation.suites import Suite

OUTCOMES = ("same_space", "new_space")
KIND = "expect_the_space_to_be_kept_or_announced"
_ANNOUNCED = "as announced"


def suite(metrics: dict[str, Any], plan: Plan, thresholds: AlignmentThresholds) -> Suite:
    """What is expected of the align stage's `metrics`."""
    outcome = metrics.get("outcome")
    figures = {
        "outcome": outcome,
        "space": _space(metrics, plan),
        "heldout_cosine_p50": metrics.get("heldout_cosine_p50"),
        "heldout_cosine_p5": metrics.get("heldout_cosine_p5"),
    }
    expected = [
        Expectation(
            name="the space is the same or announced as new",
            column="outcome",
            kind=KIND,
            one_of=OUTCOMES,
            reason="vectors of a refused space mean something else to every consumer",
            finding="the outcome of the alignment is {}",
            examples=few(metrics.get("reasons") or []),
        )
    ]
    if outcome in OUTCOMES:
        expected.append(_numbered())
    # The space that the first night opens has nothing to be compared with.
    if outcome == "same_space" and not metrics.get("opened"):
        expected += _heldout(thresholds)
    return figures, expected


def _numbered() -> Expectation:
    return Expectation(
        name="the number of the space says so",
        column="space",
        kind=KIND,
        one_of=(_ANNOUNCED,),
        reason="a new space under the old number would be read as the old one",
        finding="the space is {}",
    )


def _heldout(thresholds: AlignmentThresholds) -> list[Expectation]:
    return [
        Expectation(
            name=name,
            column=f"heldout_{figure}",
            minimum=getattr(thresholds, f"warn_heldout_{figure.removeprefix('cosine_')}"),
            level="warn",
            finding=f"the cosine of held-out titles to their old places is {{:.3f}} ({part})",
            reason=thresholds.why(f"warn_heldout_{figure.removeprefix('cosine_')}"),
        )
        for name, figure, part in (
            ("held-out titles stay where they were", "cosine_p50", "median"),
            ("hardly any held-out title turns away", "cosine_p5", "5th percentile"),
        )
    ]


def _space(metrics: dict[str, Any], plan: Plan) -> str | None:
    """Whether the space has the planned number exactly if it is the planned space, which the first night opens."""
    space = metrics.get("space_id")
    if space is None:
        return None
    planned = metrics.get("outcome") == "same_space" or plan.reference_release is None
    if planned == (str(space) == plan.space_id):
        return _ANNOUNCED
    return f"{metrics.get('outcome')} numbered {space}, planned was {plan.space_id}"
