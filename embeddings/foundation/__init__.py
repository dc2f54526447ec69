"""The foundation model: a causal transformer over histories beside a title tower."""

from importlib import import_module
from typing import Any

_HOMES = {
    "FoundationConfig": "embeddings.foundation.config",
    "FoundationEncoder": "embeddings.foundation.encoder",
    "TrainedModel": "embeddings.foundation.training",
    "train": "embeddings.foundation.training",
    "evaluate": "embeddings.foundation.evaluation",
    "train_and_evaluate": "embeddings.foundation.evaluation",
}

__all__ = [
    "FoundationConfig",
    "FoundationEncoder",
    "TrainedModel",
    "evaluate",
    "train",
    "train_and_evaluate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
