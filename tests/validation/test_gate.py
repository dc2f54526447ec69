import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from validation.checks import Check, Expectation, GateVerdict
from validation.config import GateConfig, Thresholds
from validation.gx_gate import judge, run_suite

FIGURES = {"share": 0.5, "outcome": "refused", "nothing": None, "nan": float("nan")}


@pytest.mark.parametrize(
    ("expectation", "passed"),
    [
        ({"column": "share", "minimum": 0.5}, True),
        ({"column": "share", "minimum": 0.6}, False),
        ({"column": "share", "maximum": 0.5}, True),
        ({"column": "share", "maximum": 0.4}, False),
        ({"column": "share", "minimum": 0.5, "maximum": 0.5}, True),
        ({"column": "share"}, True),
        ({"column": "outcome", "one_of": ("same_space", "refused")}, True),
        ({"column": "outcome", "one_of": ("same_space",)}, False),
        ({"column": "nothing", "minimum": 0}, False),
        ({"column": "nan", "maximum": 9}, False),
        ({"column": "absent", "one_of": ("x",)}, False),
        ({"column": "absent"}, False),
    ],
)
def test_an_expectation_is_answered(expectation, passed):
    (check,) = judge("gate", {"suite": (FIGURES, [Expectation(name="it", **expectation)])}).checks
    assert check.passed == passed
    assert (check.observed is None) == (expectation["column"] not in ("share", "outcome"))


def test_answers_come_in_the_order_of_the_questions_even_about_one_column():
    limits = (0.9, 0.1, 0.9, 0.5)
    asked = [Expectation(name=f"q{at}", column="share", minimum=limit) for at, limit in enumerate(limits)]
    checks = run_suite("order", pd.DataFrame([{"share": 0.5}]), asked)
    assert [(check.expectation, check.passed) for check in checks] == [
        ("q0", False),
        ("q1", True),
        ("q2", False),
        ("q3", True),
    ]


def test_one_bad_row_of_a_few_fails():
    frame = pd.DataFrame({"share": [0.9, 0.2, 0.9]})
    (check,) = run_suite("rows", frame, [Expectation(name="high", column="share", minimum=0.5)])
    assert not check.passed
    assert check.observed == 0.2


def test_only_a_hold_holds_and_the_message_names_all_of_it():
    asked = [
        Expectation(name="warned of", column="share", minimum=0.9, level="warn"),
        Expectation(name="held by", column="share", maximum=0.1, reason="because", examples=("a", "b")),
    ]
    verdict = judge("vectors", {"suite": (FIGURES, asked)})
    assert not verdict.passed
    assert [check.expectation for check in verdict.warnings] == ["warned of"]
    for part in ("held by", "share", "0.5", "≤ 0.1", "because", "a, b"):
        assert part in verdict.message()
    assert "warned of" not in verdict.message()
    assert judge("vectors", {"suite": (FIGURES, asked[:1])}).passed


def test_a_verdict_survives_json():
    verdict = judge("g", {"suite": (FIGURES, [Expectation(name="it", column="share", minimum=1)])})
    assert GateVerdict.of("g", verdict.metrics()) == verdict
    assert isinstance(verdict.checks[0], Check)


def test_every_threshold_gives_its_reason():
    for group in GateConfig.model_fields:
        thresholds: Thresholds = getattr(GateConfig(), group)
        for name, field in type(thresholds).model_fields.items():
            assert field.description, f"{group}.{name} has no reason"


QUIET = """
import sys, logging
from validation.checks import Expectation
from validation.gx_gate import judge
assert "great_expectations" not in sys.modules
v = judge("g", {"s": ({"x": 1.0}, [Expectation(name="n", column="x", minimum=2), Expectation(name="m", column="y")])})
assert len(v.held) == 2
import validation.job, validation.report
"""


def test_judging_is_silent_and_writes_nothing(tmp_path: Path):
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(root), "HOME": str(tmp_path), "PATH": "", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
