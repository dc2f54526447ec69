"""How the encode job is set."""

import hashlib
import json
from typing import Literal

from pydantic import Field, field_validator

from stores.settings import Settings

PREPROCESSING_VERSION = 1
"""Raise it when the way from a history to a model's input changes: then nothing is carried forward."""
FOUNDATION_ENCODER = "embeddings.foundation:FoundationEncoder"


class EncodeConfig(Settings):
    """Which model class encodes, and how the work is spread.

    `encoder` is "module:Class". `model` is what its `load(path)` gets; empty means the workspace's own
    model. `workers` defaults to one for each core (each GPU where `gpus_per_worker` is set);
    `max_bad_fraction` is the share of rows that the model may fail on before the night stops. `precision` "auto"
    takes bf16 where the hardware is fast at it and the vectors agree with those of fp32: cosine of each
    at least `min_cosine`, top ten titles alike to `min_overlap`.
    """

    encoder: str = FOUNDATION_ENCODER
    model: str = ""
    batch_size: int = Field(default=32_768, ge=1)
    batch_tokens: int = Field(default=1_000_000, ge=1)
    titles_per_shard: int = Field(default=50_000, ge=1)
    workers: int | None = Field(default=None, ge=1)
    gpus_per_worker: float = Field(default=0.0, ge=0)
    load_timeout_s: float = Field(default=1800.0, gt=0)
    """Seconds that an encoder may take to load its model; then the night ends with an error that names it."""
    max_bad_fraction: float = 0.001
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    min_cosine: float = 0.9999
    min_overlap: float = 0.99

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_devices(cls, value: float) -> float:
        """Ray gives shares of one GPU, or whole ones."""
        if value > 1 and value != int(value):
            raise ValueError("shares of a GPU end at 1; more than one must be a whole number")
        return value

    @property
    def preprocessing(self) -> str:
        """A hash of all that a vector depends on besides the model and the history."""
        wish = [PREPROCESSING_VERSION, self.encoder, self.model, self.precision, self.min_cosine, self.min_overlap]
        return hashlib.sha256(json.dumps(wish).encode()).hexdigest()[:16]
