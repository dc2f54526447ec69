"""The ground floor: schemas, files, releases, the pointer, Feast, the dead letter.

Names are loaded when they are first used, so that a command that only looks starts fast.
"""

from importlib import import_module
from typing import Any

from stores.errors import SamespaceError

_HOME = {
    "Lake": "stores.lake.contract",
    "Manifest": "stores.manifest",
    "Plan": "stores.manifest",
    "Release": "stores.release",
    "StageReport": "stores.manifest",
    "Storage": "stores.storage",
    "Workspace": "stores.workspace",
}

__all__ = ["Lake", "Manifest", "Plan", "Release", "SamespaceError", "StageReport", "Storage", "Workspace"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stores' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
