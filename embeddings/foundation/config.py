"""The settings of the foundation model and the rules by which they follow the data."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stores.settings import Settings


class NetworkConfig(Settings):
    """The shape of both towers."""

    dim: int = Field(default=64, ge=2, description="width of the published vectors")
    width: int = Field(default=64, ge=2, description="width of the transformer")
    blocks: int = Field(default=2, ge=1)
    block: Literal["gated", "hstu"] = Field(default="gated", description="attention and SwiGLU, or HSTU")
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    length: int | None = Field(default=None, ge=2, description="positions seen at once; None follows the data")
    max_length: int = Field(default=200, ge=2, description="bound of that rule")
    time_bias: bool = Field(default=True, description="attention sees log-bucketed time between events")
    field_dim: int = Field(default=16, ge=1, description="width of one metadata field")
    latents: int = Field(default=0, ge=0, description="learned summaries of what lies before the window")
    past_events: int = Field(default=8192, ge=1, description="so many older events are pooled, in training a tenth")
    preferences: bool = Field(default=True, description="heads that predict genres, language and watching through")
    hierarchical: bool = Field(default=False, description="what the heads predict is fed to the member vector")
    metadata: bool = True
    content: bool = Field(default=True, description="use the catalogue's content vectors where it has them")
    hashed_words: int = Field(default=4096, ge=1, description="buckets that the words of `text` are hashed into")
    words_per_title: int = Field(default=24, ge=1)


class TrainingConfig(Settings):
    """How the model learns. The budget is one of steps: batch and epochs follow from it."""

    batch_tokens: int = Field(default=2048, ge=1, description="padded tokens of one step")
    epochs: int = Field(default=30, ge=1, description="wanted passes over the tokens, within the bounds on steps")
    min_steps: int = Field(default=1000, ge=1)
    max_steps: int = Field(default=30_000, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warm_share: float = Field(default=0.3, gt=0, le=1, description="of the steps, in a warm start")
    warm_up: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = Field(default=1.0, gt=0, description="largest norm of a gradient")
    average: float = Field(default=0.999, ge=0, lt=1, description="decay of the mean of the weights; 0 keeps the last")
    negatives: int = Field(default=2048, ge=1, description="titles drawn per step, shared by the batch")
    full_softmax_titles: int = Field(default=4096, ge=0, description="up to so many titles, all of them are scored")
    future_share: float = Field(default=0.0, ge=0, le=1, description="targets drawn from the future window")
    future_hours: tuple[float, float] = Field(default=(12.0, 72.0), description="that window, after the last event")
    auxiliary: float = Field(default=0.0, ge=0, le=1, description="share of the teachers' gradient that the body gets")
    teachers: tuple[Literal["genres", "language", "watched"], ...] = Field(
        default=("genres", "language", "watched"), description="heads that teach the body where `auxiliary` lets them"
    )
    engagement_weights: bool = Field(default=True, description="targets count by how far and long they were watched")
    exposure_clip: float = Field(default=0.0, ge=0, description="largest weight of a target rarely shown; 0: all alike")
    nested: bool = Field(default=True, description="half of a vector's entries learn to rank by themselves too")
    temperature: float = Field(default=0.05, gt=0, description="at the start; learned")
    spectral_start: bool = Field(default=True, description="title ids start from co-occurrence, not from noise")
    context_dropout: float = Field(default=0.5, ge=0, le=1, description="share of positions whose request is UNKNOWN")
    stand_in: float = Field(default=1.0, ge=0, description="weight of: a title without its id lies where that puts it")
    masked_ids: tuple[float, float] = Field(default=(0.02, 0.2), description="bounds of the share of masked title ids")
    evaluations: int = Field(default=20, ge=1, description="validations over the whole budget")
    patience: int = Field(default=6, ge=1, description="validations without a new best before stopping")
    validation_members: int = Field(default=2000, ge=1, description="members whose last new title is held out")
    validation_share: float = Field(default=0.5, gt=0, le=1, description="of the members, at most so many …")
    validation_least: int = Field(default=1000, ge=1, description="… or this number: fewer answers choose by luck")


class FineTuneConfig(Settings):
    """How a trained model learns an application's data."""

    mode: Literal["full", "frozen", "adapters"] = Field(
        default="adapters", description="all weights; only what follows the body; low-rank changes of all matrices"
    )
    rank: int = Field(default=4, ge=1, description="of the changes that adapters make")


class FoundationConfig(Settings):
    """Everything that makes a model besides data and seed."""

    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    workers: int = Field(default=1, ge=1, description="processes that share each step, through Ray")
    fields: tuple[Literal["genres", "kind", "language", "country", "maturity", "year", "text"], ...] = (
        "genres",
        "kind",
        "language",
        "country",
        "maturity",
        "year",
        "text",
    )


def length_for(config: NetworkConfig, tokens_per_member: npt.NDArray[np.int64]) -> int:
    """Positions seen at once: the 95th percentile of history lengths, in steps of 8, from 16 to `max_length`."""
    if config.length is not None:
        return config.length
    if not len(tokens_per_member):
        return min(16, config.max_length)
    wanted = int(np.quantile(tokens_per_member, 0.95)) + 1
    return int(min(config.max_length, max(16, -(-wanted // 8) * 8)))


def steps_for(config: TrainingConfig, tokens: int, warm: bool = False) -> int:
    """Steps of a training: `epochs` passes over `tokens`, within `min_steps` and `max_steps`; a share if `warm`."""
    wanted = config.epochs * tokens // config.batch_tokens
    steps = min(config.max_steps, max(min(config.min_steps, config.max_steps), wanted))
    return math.ceil(config.warm_share * steps) if warm else steps
