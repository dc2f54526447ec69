"""Settings of the foundation model, its semantic ids and its tasks, and the rules by which they follow the data."""

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
    num_layers: int = Field(default=2, ge=1)
    block_type: Literal["transformer", "hstu"] = Field(
        default="transformer", description="attention and SwiGLU, or HSTU"
    )
    num_heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    max_positions: int | None = Field(default=None, ge=2, description="positions seen at once; None follows the data")
    max_auto_positions: int = Field(default=200, ge=2, description="bound of that rule")
    time_bias: bool = Field(default=True, description="attention sees log-bucketed time between events")
    field_dim: int = Field(default=16, ge=1, description="width of one metadata field")
    latents: int = Field(default=0, ge=0, description="learned summaries of what lies before the window")
    max_past_events: int = Field(
        default=8192, ge=1, description="Older events pooled per member; in training a tenth of them."
    )
    preferences: bool = Field(default=True, description="heads that predict genres, language and watching through")
    hierarchical: bool = Field(default=False, description="what the heads predict is fed to the member vector")
    metadata: bool = True
    content: bool = Field(default=True, description="use the catalogue's content vectors where it has them")
    text_hash_buckets: int = Field(default=4096, ge=1, description="buckets that the words of `text` are hashed into")
    max_words_per_title: int = Field(default=24, ge=1)


class TrainingConfig(Settings):
    """How the model learns. The budget is one of steps: batch and epochs follow from it."""

    batch_tokens: int = Field(default=2048, ge=1, description="padded tokens of one step")
    epochs: int = Field(default=30, ge=1, description="wanted passes over the tokens, within the bounds on steps")
    min_steps: int = Field(default=1000, ge=1)
    max_steps: int = Field(default=30_000, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warm_start_step_fraction: float = Field(default=0.3, gt=0, le=1, description="of the steps, in a warm start")
    warmup_fraction: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    max_grad_norm: float = Field(default=1.0, gt=0, description="largest norm of a gradient")
    ema_decay: float = Field(
        default=0.999, ge=0, lt=1, description="decay of the mean of the weights; 0 keeps the last"
    )
    num_negatives: int = Field(default=2048, ge=1, description="titles drawn per step, shared by the batch")
    max_full_softmax_titles: int = Field(
        default=4096, ge=0, description="Catalogues of at most this many titles are scored in full."
    )
    future_target_fraction: float = Field(default=0.0, ge=0, le=1, description="targets drawn from the future window")
    future_window_hours: tuple[float, float] = Field(
        default=(12.0, 72.0), description="that window, after the last event"
    )
    aux_gradient_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share of the teachers' gradient that the body gets"
    )
    aux_heads: tuple[Literal["genres", "language", "watched"], ...] = Field(
        default=("genres", "language", "watched"), description="heads that teach the body where `auxiliary` lets them"
    )
    engagement_weights: bool = Field(default=True, description="targets count by how far and long they were watched")
    max_ips_weight: float = Field(
        default=0.0, ge=0, description="largest weight of a target rarely shown; 0: all alike"
    )
    matryoshka: bool = Field(default=True, description="half of a vector's entries learn to rank by themselves too")
    temperature: float = Field(default=0.05, gt=0, description="at the start; learned")
    ppmi_init: bool = Field(default=True, description="title ids start from co-occurrence, not from noise")
    context_dropout: float = Field(default=0.5, ge=0, le=1, description="share of positions whose request is UNKNOWN")
    cold_start_loss_weight: float = Field(
        default=1.0, ge=0, description="weight of: a title without its id lies where that puts it"
    )
    id_dropout_range: tuple[float, float] = Field(
        default=(0.02, 0.2), description="bounds of the share of masked title ids"
    )
    num_validations: int = Field(default=20, ge=1, description="validations over the whole budget")
    patience: int = Field(default=6, ge=1, description="validations without a new best before stopping")
    max_validation_members: int = Field(default=2000, ge=1, description="members whose last new title is held out")
    max_validation_fraction: float = Field(default=0.5, gt=0, le=1, description="of the members, at most so many …")
    min_validation_members: int = Field(
        default=1000, ge=1, description="… or this number: fewer answers choose by luck"
    )


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


def num_positions(config: NetworkConfig, tokens_per_member: npt.NDArray[np.int64]) -> int:
    """Positions of a window: the 95th percentile of history lengths, in steps of 8, 16 to `max_auto_positions`."""
    if config.max_positions is not None:
        return config.max_positions
    if not len(tokens_per_member):
        return min(16, config.max_auto_positions)
    wanted = int(np.quantile(tokens_per_member, 0.95)) + 1
    return int(min(config.max_auto_positions, max(16, -(-wanted // 8) * 8)))


def num_steps(config: TrainingConfig, tokens: int, warm: bool = False) -> int:
    """Steps of a training: `epochs` passes over `tokens`, within `min_steps` and `max_steps`; a share if `warm`."""
    wanted = config.epochs * tokens // config.batch_tokens
    steps = min(config.max_steps, max(min(config.min_steps, config.max_steps), wanted))
    return math.ceil(config.warm_start_step_fraction * steps) if warm else steps


class SemanticIdsConfig(Settings):
    """The shape of the codebooks. They are fitted once per space and then frozen."""

    levels: int = Field(default=3, ge=1, description="digits that say what a title is like, coarse to fine")
    codes: int | None = Field(default=None, ge=2, le=65_536, description="codes of a level; None follows the catalogue")
    max_codes: int = Field(default=256, ge=2, le=65_536, description="bound of that rule")
    rounds: int = Field(default=30, ge=1, description="of k-means, at most")
    sample: int = Field(default=131_072, ge=2, description="titles that the codebooks are fitted on, at most")
    seed: int = 0


def num_codes(config: SemanticIdsConfig, titles: int) -> int:
    """Codes of a level: the largest power of two of which there are three titles each, from 2 to `max_codes`."""
    if config.codes is not None:
        return config.codes
    return min(config.max_codes, max(2, 1 << max(1, (titles // 3).bit_length() - 1)))


TaskName = Literal["next_title", "trailers", "plays", "thumbs", "next_genre", "completion", "co_members", "next_id"]


class TasksConfig(Settings):
    """Which tasks, on which experts, for how long."""

    names: tuple[TaskName, ...] = Field(
        default=("next_title", "next_genre", "completion", "co_members", "next_id"), min_length=1
    )
    experts: Literal["shared", "mixture"] = Field(
        default="mixture", description="one for all tasks; or also one for each kind of task, and for each task"
    )
    rank: int = Field(default=8, ge=1, description="of the change that an expert makes to a matrix")
    steps_per_task: int = Field(default=120, ge=1, description="of the whole training, which is theirs together")
    adaptive_sampling: bool = Field(
        default=True, description="turns follow how far each task has converged; else all alike"
    )
    rounds: int = Field(default=3, ge=1, description="times that convergence is measured and turns are dealt anew")
    warmup_rounds: int = Field(default=1, ge=0, description="of these at the beginning, in which all tasks are alike")
    max_eval_queries: int = Field(
        default=200, ge=1, description="held out, at most: each round asks every task all of them"
    )
    eval_window: int = Field(
        default=32, ge=1, description="newest events that are read before such a question, at most"
    )
    min_share: float = Field(default=0.3, ge=0, le=1, description="of an even share, that no task falls below")
    merge: bool = Field(default=False, description="each task keeps several rounds, mixed by validation; else the end")
    learning_rate: float = Field(default=2e-3, gt=0)
