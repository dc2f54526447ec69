"""Fuzzing on the OpenAPI document: nothing crashes, and every status that comes is documented."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="the fuzzing needs schemathesis from PyPI")

QUICK = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_answer_is_documented_and_none_is_a_crash(address, mode):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    # The width of a vector and the kind of the ids are those of the release, which no document can know.
    from schemathesis.specs.openapi.checks import positive_data_acceptance as acceptance

    tried = 0
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy(generation_mode=mode)

        @QUICK
        @given(case=strategy)
        def holds(case):
            assert case.call_and_validate(excluded_checks=[acceptance]).status_code < 500

        with suppress(Unsatisfiable):  # a route that takes nothing can be asked nothing wrong
            holds()
        tried += 1
    assert tried == 13
