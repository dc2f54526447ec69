"""The domain's own expectations as Great Expectations types, so that a failure names what the field calls it.

Each judges one figure of a small frame. Great Expectations passes over nulls; these fail on them, because what was
not measured was not shown to be good. This module imports Great Expectations, which takes seconds: only
`validation.gx_gate` and `validation.data_docs` import it, inside the functions that judge.
"""

from typing import TYPE_CHECKING, Any

import great_expectations.expectations as gxe

from validation.checks import Expectation

if TYPE_CHECKING:
    pass


class _Measured:
    """Fails where the figure is null or there is none."""

    def _validate(self, *args: Any, **kwargs: Any) -> Any:
        answer = super()._validate(*args, **kwargs)  # type: ignore[misc]  # the other base class has it
        counted = answer["result"]
        if counted.get("missing_count") or not counted.get("element_count"):
            answer["success"] = False
        return answer


class ExpectFigureToBeMeasured(_Measured, gxe.ExpectColumnValuesToNotBeNull):  # type: ignore[misc]  # its types are not exported
    """The figure is there, whatever it is."""


class ExpectFigureToBeWithin(_Measured, gxe.ExpectColumnValuesToBeBetween):  # type: ignore[misc]  # its types are not exported
    """The figure lies between `min_value` and `max_value`, both allowed, either None."""


class ExpectFigureToBeOneOf(_Measured, gxe.ExpectColumnValuesToBeInSet):  # type: ignore[misc]  # its types are not exported
    """The figure is one of the texts in `value_set`."""


class ExpectSnapshotToBeCovered(ExpectFigureToBeWithin):
    """The share of the snapshot's ids that have a vector."""


class ExpectVectorsToBelongToTheirIds(ExpectFigureToBeWithin):
    """The share of vectors whose history or title is that of their id; or how many ids are wrong."""


class ExpectVectorsToBeFinite(ExpectFigureToBeWithin):
    """The share of vectors without NaN and without infinity."""


class ExpectVectorsToHaveTheWidth(ExpectFigureToBeWithin):
    """The number of dimensions of every vector, in a column of another width, or how many widths there are."""


class ExpectVectorsToSpanTheSpace(ExpectFigureToBeWithin):
    """How much room the vectors take: their effective rank, or the share of equal ones."""


class ExpectNeighboursToBeKept(ExpectFigureToBeWithin):
    """How much of titles' nearest neighbours is as it was in the live release."""


class ExpectTitlesToKeepTheirPlaces(ExpectFigureToBeWithin):
    """How many titles, or which share of a segment, left their places in the space; or changed them with each other."""


class ExpectMembersToBeWhoTheyWere(ExpectFigureToBeWithin):
    """How often a member is closer to the own place before than to another's."""


class ExpectTheSpaceToBeKeptOrAnnounced(ExpectFigureToBeOneOf):
    """The alignment's outcome, and that the number of the space says the same."""


_OWN = (
    ExpectSnapshotToBeCovered,
    ExpectVectorsToBelongToTheirIds,
    ExpectVectorsToBeFinite,
    ExpectVectorsToHaveTheWidth,
    ExpectVectorsToSpanTheSpace,
    ExpectNeighboursToBeKept,
    ExpectTitlesToKeepTheirPlaces,
    ExpectMembersToBeWhoTheyWere,
    ExpectTheSpaceToBeKeptOrAnnounced,
)
OWN: dict[str, Any] = {one.expectation_type: one for one in _OWN}
"""The domain's types by the name that Great Expectations gives them: `expect_vectors_to_be_finite` and so on."""


def in_gx(expectation: Expectation, at: int) -> Any:
    """The Great Expectations object that asks for an expectation; `at` finds its answer again."""
    severity = "critical" if expectation.level == "hold" else "warning"
    common: dict[str, Any] = {
        "column": expectation.column,
        "severity": severity,
        "description": f"{expectation.name}: {expectation.allowed}",
        "notes": expectation.reason or None,
        # The name makes two expectations about one column distinct.
        "meta": {"at": at, "name": expectation.name},
    }
    if expectation.one_of is not None:
        return OWN.get(expectation.kind, ExpectFigureToBeOneOf)(**common, value_set=list(expectation.one_of))
    limits = {"min_value": expectation.minimum, "max_value": expectation.maximum}
    if expectation.minimum is None and expectation.maximum is None:
        return ExpectFigureToBeMeasured(**common)
    return OWN.get(expectation.kind, ExpectFigureToBeWithin)(**common, **limits)
