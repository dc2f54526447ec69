"""Great Expectations as the judge of one small frame.

The context is ephemeral (nothing is written to disk), sends nothing, and is silent. Great
Expectations takes seconds to import, so that happens here, inside the functions, and nowhere else.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from stores.errors import SamespaceError
from validation.checks import Check, Expectation, GateVerdict

if TYPE_CHECKING:
    import pandas as pd


def judge(name: str, suites: Mapping[str, tuple[Mapping[str, Any], Sequence[Expectation]]]) -> GateVerdict:
    """The verdict on several suites, each a one-row frame of figures and the expectations about it."""
    checks: list[Check] = []
    for suite, (figures, expectations) in suites.items():
        checks += run_suite(suite, one_row(figures, expectations), expectations)
    return GateVerdict(name=name, checks=tuple(checks))


def one_row(figures: Mapping[str, Any], expectations: Sequence[Expectation]) -> "pd.DataFrame":
    """A frame of one row with a column per expected figure; an absent figure is null."""
    import pandas as pd

    columns = dict.fromkeys(expectation.column for expectation in expectations)
    return pd.DataFrame([{column: figures.get(column) for column in columns}])


def run_suite(name: str, frame: "pd.DataFrame", expectations: Sequence[Expectation]) -> list[Check]:
    """Judge a small frame (one or few rows) and answer every expectation, in order.

    Raises SamespaceError when Great Expectations leaves an expectation unanswered.
    """
    if not expectations:
        return []
    with _quiet():
        import great_expectations as gx

        source = _context().data_sources.add_or_update_pandas(name)
        asset = source.add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch(batch_parameters={"dataframe": frame})
        suite = gx.ExpectationSuite(name=name, expectations=[_in_gx(e, at) for at, e in enumerate(expectations)])
        results = batch.validate(suite, result_format="COMPLETE").results
    answers = {result.expectation_config.meta["at"]: result for result in results}
    if len(answers) != len(expectations):
        raise SamespaceError(f"suite {name}: {len(answers)} of {len(expectations)} expectations were answered")
    return [_check(expectation, answers[at], frame) for at, expectation in enumerate(expectations)]


def _in_gx(expectation: Expectation, at: int) -> Any:
    """The Great Expectations object that asks for an expectation; `at` finds its answer again."""
    import great_expectations.expectations as gxe

    severity = "critical" if expectation.level == "hold" else "warning"
    common = {"column": expectation.column, "severity": severity, "notes": expectation.reason or None}
    # The name makes two expectations about one column distinct.
    meta = {"at": at, "name": expectation.name}
    if expectation.one_of is not None:
        return gxe.ExpectColumnValuesToBeInSet(**common, value_set=list(expectation.one_of), meta=meta)
    if expectation.minimum is None and expectation.maximum is None:
        return gxe.ExpectColumnValuesToNotBeNull(**common, meta=meta)
    return gxe.ExpectColumnValuesToBeBetween(
        **common, min_value=expectation.minimum, max_value=expectation.maximum, meta=meta
    )


def _check(expectation: Expectation, result: Any, frame: "pd.DataFrame") -> Check:
    values = frame[expectation.column].tolist() if expectation.column in frame else []
    missing = not values or any(_is_null(value) for value in values)
    # Great Expectations passes over nulls; a gate must not.
    passed = bool(result.success) and not missing
    unexpected = result.result.get("unexpected_list") or values
    observed: Any = None if missing else unexpected[0]
    reason = expectation.reason if not missing else f"the figure is absent; {expectation.reason}".rstrip("; ")
    return Check(
        expectation=expectation.name,
        column=expectation.column,
        observed=observed.item() if hasattr(observed, "item") else observed,
        allowed=expectation.allowed,
        passed=passed,
        level=expectation.level,
        examples=() if passed else expectation.examples,
        reason=reason,
    )


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


@cache
def _context() -> Any:
    """The one ephemeral context of this process."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    return context


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's import warnings and log lines out of a night's output."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
