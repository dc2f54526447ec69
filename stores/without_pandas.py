"""Doing without pandas where nobody asks for it.

Arrow loads it when the first array is made, if only to know its version: a third of the time of a command that looks,
and of a second and a half in which a worker starts. Where there is none, Arrow goes without.
"""

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class WithoutPandas(MetaPathFinder):
    """Lets nothing of this process find pandas."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse pandas, know nothing of any other module."""
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)


def do_without_pandas() -> None:
    """From now on this process finds no pandas, unless it has loaded it before."""
    sys.meta_path.insert(0, WithoutPandas())
