"""From published vectors to answers: the exact oracle, FAISS indexes chosen by measurement, and look-ups.

Names are loaded when they are first used, so that a command that only looks starts fast.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Filter": "retrieval.filters",
    "IndexConfig": "retrieval.config",
    "Origin": "retrieval.card",
    "RetrievalConfig": "retrieval.config",
    "Server": "retrieval.serving",
    "TitleIndex": "retrieval.index",
    "candidates": "retrieval.lookup",
    "similar": "retrieval.lookup",
}
_MODULES = ("exact",)

__all__ = [
    "Filter",
    "IndexConfig",
    "Origin",
    "RetrievalConfig",
    "Server",
    "TitleIndex",
    "candidates",
    "exact",
    "similar",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"retrieval.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
