"""Native vectors → the shared space: canonical basis, robust Procrustes, judgement; a Ray job around a NumPy core.

Gram, fit, Anchors, AlignmentConfig      what goes in
AlignmentTransform                       the maps that come out
judge, Verdict                           may it be published into the space?
dimension_report                         which coordinates are stable on their own
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignment.anchors import Anchors
    from alignment.config import AlignmentConfig, JudgeConfig
    from alignment.dimensions import Dimension, dimension_report
    from alignment.fitting import fit
    from alignment.gram import Gram
    from alignment.judging import Verdict, judge
    from alignment.placement import Placement, place
    from alignment.transform import AlignmentTransform

__all__ = [
    "AlignmentConfig",
    "AlignmentTransform",
    "Anchors",
    "Dimension",
    "Gram",
    "JudgeConfig",
    "Placement",
    "Verdict",
    "dimension_report",
    "fit",
    "judge",
    "place",
]

_HOME = {
    "AlignmentConfig": "config",
    "AlignmentTransform": "transform",
    "Anchors": "anchors",
    "Dimension": "dimensions",
    "Gram": "gram",
    "JudgeConfig": "config",
    "Placement": "placement",
    "Verdict": "judging",
    "dimension_report": "dimensions",
    "fit": "fitting",
    "judge": "judging",
    "place": "placement",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use. No module is named like a function: importing it would hide the function."""
    if name not in _HOME:
        raise AttributeError(f"module 'alignment' has no attribute {name!r}")
    value = getattr(import_module(f"alignment.{_HOME[name]}"), name)
    globals()[name] = value
    return value
