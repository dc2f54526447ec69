"""The lake: the input tables, their contract, and the writers that make one.

`contract` reads and judges, `movielens` imports, `simulate` invents. Names are looked up when they are
first used, so that importing the package costs nothing. (`simulate` itself is imported from its module of
the same name.)
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "import_movielens": "stores.lake.movielens",
    "SimulationConfig": "stores.lake.simulation.config",
}

__all__ = ["SimulationConfig", "import_movielens"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
