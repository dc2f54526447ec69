"""The HTTP service: one live release in memory, swapped warm when the pointer moves, and a page to wander in it.

Names are loaded when they are first used; FastAPI and prometheus_client come with the extra `[serve]`.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Live": "retrieval.service.live",
    "OpenRelease": "retrieval.service.opened",
    "ServeConfig": "retrieval.service.config",
    "Standing": "retrieval.service.live",
    "create_app": "retrieval.service.app",
    "server": "retrieval.service.transport",
}

__all__ = ["Live", "OpenRelease", "ServeConfig", "Standing", "create_app", "server"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'retrieval.service' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
