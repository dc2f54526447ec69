"""From interactions to native vectors; torch lives here and nowhere else."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Encoder": "embeddings.encoder",
    "load": "embeddings.encoder",
}

__all__ = ["Encoder", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
