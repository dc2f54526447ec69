"""The gate between what a night made and what goes live, and the report that shows it.

Names are loaded when they are first used: Great Expectations only when a gate judges.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Check": "validation.checks",
    "Expectation": "validation.checks",
    "GateConfig": "validation.thresholds",
    "GateVerdict": "validation.checks",
    "judge": "validation.gate",
    "run_index": "validation.job",
    "run_input": "validation.job",
    "run_suite": "validation.gate",
    "run_vectors": "validation.job",
    "write_report": "validation.report",
}

__all__ = [
    "Check",
    "Expectation",
    "GateConfig",
    "GateVerdict",
    "judge",
    "run_index",
    "run_input",
    "run_suite",
    "run_vectors",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'validation' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
