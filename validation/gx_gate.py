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
    results = answered(name, frame, expectations).results
    answers = {result.expectation_config.meta["at"]: result for result in results}
    if len(answers) != len(expectations):
        raise SamespaceError(f"suite {name}: {len(answers)} of {len(expectations)} expectations were answered")
    return [_check(expectation, answers[at], frame) for at, expectation in enumerate(expectations)]


def answered(name: str, frame: "pd.DataFrame", expectations: Sequence[Expectation]) -> Any:
    """What Great Expectations makes of a small frame: its `ExpectationSuiteValidationResult`."""
    with quiet():
        import great_expectations as gx

        from validation.gx_expectations import in_gx

        source = _context().data_sources.add_or_update_pandas(name)
        asset = source.add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch(batch_parameters={"dataframe": frame})
        suite = gx.ExpectationSuite(name=name, expectations=[in_gx(e, at) for at, e in enumerate(expectations)])
        return batch.validate(suite, result_format="COMPLETE")


def _check(expectation: Expectation, result: Any, frame: "pd.DataFrame") -> Check:
    values = frame[expectation.column].tolist() if expectation.column in frame else []
    missing = not values or any(_is_null(value) for value in values)
    passed = bool(result.success)
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
        finding=expectation.finding,
        kind=result.expectation_config.type,
        minimum=expectation.minimum,
        maximum=expectation.maximum,
        one_of=expectation.one_of,
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
def quiet() -> Iterator[None]:
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
