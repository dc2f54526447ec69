"""Feast, loaded late and without its side effects."""

import warnings
from typing import Any


def load_feast() -> Any:
    """The module `feast`.

    Its modules set warning filters for the whole process when they are imported, which would make a
    night print the deprecation warnings of every other library; the filters are put back.
    """
    with warnings.catch_warnings():
        import feast
    return feast
