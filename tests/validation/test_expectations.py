import pandas as pd
import pytest

from validation.checks import Expectation
from validation.config import GateConfig
from validation.gx_gate import run_suite
from validation.job import run_vectors


def test_failures_of_a_night_carry_the_domains_own_types(live):
    def spoilt(content):
        content["members"][3] = float("nan")
        content["drop_titles"] = 5

    kinds = {
        check["column"]: check["kind"] for check in run_vectors(GateConfig(), live.stage(spoilt)).metrics["checks"]
    }
    assert kinds["members_finite_share"] == "expect_vectors_to_be_finite"
    assert kinds["members_width"] == "expect_vectors_to_have_the_width"
    assert kinds["titles_coverage"] == "expect_snapshot_to_be_covered"
    assert kinds["neighbour_jaccard"] == "expect_neighbours_to_be_kept"
    assert kinds["space"] == "expect_the_space_to_be_kept_or_announced"
    assert kinds["member_identity"] == "expect_members_to_be_who_they_were"


def test_every_kind_that_a_suite_names_is_a_type(live):
    from validation.gx_expectations import OWN
    from validation.suites import alignment, drift, vectors

    named = {alignment.KIND, *drift._KINDS.values(), *vectors._KINDS.values()}
    assert named == set(OWN)


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "expect_vectors_to_be_finite", "minimum": 1.0},
        {"kind": "expect_the_space_to_be_kept_or_announced", "one_of": ("same",)},
        {},
    ],
)
@pytest.mark.parametrize("values", [[], [None], [1.0, None], [float("nan")]])
def test_what_was_not_measured_fails_in_great_expectations_too(asked, values):
    frame = pd.DataFrame({"figure": pd.Series(values, dtype=object)})
    (check,) = run_suite("nulls", frame, [Expectation(name="it", column="figure", **asked)])
    assert not check.passed
    assert check.observed is None


def test_an_answer_gives_its_question_back():
    asked = Expectation(name="it", column="figure", kind="expect_neighbours_to_be_kept", minimum=0.5, reason="why")
    (check,) = run_suite("again", pd.DataFrame({"figure": [0.7]}), [asked])
    assert check.asked == asked
    assert check.kind == asked.kind
