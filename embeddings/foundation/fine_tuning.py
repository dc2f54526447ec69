"""Fine-tuning: a trained model learns what one application's data say, and stays a model like any other.

`full` lets every weight move; `frozen` only what follows the body: the projection, the mix of ids and metadata, the
heads, the temperature; `adapters` adds a low-rank change to every matrix (LoRA, Hu et al. 2021), which is merged into
the weights at the end. Titles are those that the model knows: one that is new gets its vector from metadata.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.nn.utils import parametrize

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FineTuneConfig, FoundationConfig
from embeddings.foundation.course import Course, Progress
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.resume import Unfinished
from embeddings.foundation.training import TrainedModel, newest
from stores.storage import Storage

_AFTER_THE_BODY = ("transformer.norm.", "transformer.project.", "tower.trust.", "heads.", "log_temperature")
_ADAPTED = ("transformer.", "tokens.title", "tower.ids", "tower.metadata.project")


class LowRank(nn.Module):
    """W + U·D for a matrix W that maps; W + W·U·D for a table W of vectors, all of which it changes alike."""

    def __init__(self, weight: torch.Tensor, rank: int, table: bool) -> None:
        super().__init__()
        self.table = table
        rows, columns = weight.shape
        self.up = nn.Parameter(torch.zeros(columns if table else rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight, of the same shape."""
        return weight + self.change(weight)

    def change(self, weight: torch.Tensor) -> torch.Tensor:
        """What is added to a weight."""
        return (weight @ self.up if self.table else self.up) @ self.down


@dataclass(frozen=True)
class Application(Lesson):
    """The data of an application, told in the words of a trained model, and that model as it may change."""

    prepared: FoundationModel

    @classmethod
    def on(cls, lesson: Lesson, model: FoundationModel) -> "Application":
        """A lesson that is told in the vocabulary of a model, for that model."""
        return cls(**{field.name: getattr(lesson, field.name) for field in fields(lesson)}, prepared=model)

    def model(self, config: FoundationConfig, parent: Checkpoint | None = None) -> FoundationModel:  # noqa: ARG002
        """The trained model itself."""
        return self.prepared


def fine_tune(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    models: Storage,
    parent: str | Path,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedModel:
    """Go on training the model in the folder `parent` as `config.fine_tune` says; save below the folder of models.

    The shape is the parent's and the budget that of a warm start, `config.training.warm_share` of the steps. Metrics
    have "fine_tune": the mode, and how many weights moved. The same input and seed give the same weights.
    Raises ContractError where there is nothing to learn from, and as `checkpoint.read`.
    """
    trained, parent_id = checkpoint.read(str(parent))
    config = config.model_copy(update={"network": trained.config.network, "fields": trained.config.fields})
    lesson = Lesson.of(histories, catalogue, config, seed, trained.vocabulary)
    place = Unfinished.of(models, lesson, config, seed, trained)
    place = replace(place, name=place.name.replace("unfinished-", "unfinished-tuning-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prepare(trained.model, config.fine_tune)
        course = Course(Application.on(lesson, trained.model), config, trained)
        course.run(seed, progress or (lambda _: None), place)
    told = {"mode": config.fine_tune.mode, **trainable(course.best())}
    until = max(newest(histories), _until(str(parent)))
    metrics = {**course.report(), "trained_until": until, "parent": parent_id, "fine_tune": told}
    metrics["baselines"] = lesson.baselines()
    model_id = checkpoint.write(Checkpoint(merged(course.best()), trained.vocabulary, config), models, metrics)
    place.remove()
    return TrainedModel(model_id, models.below(model_id).uri, metrics)


def _until(parent: str) -> str:
    """Until when the parent's events reach."""
    return str(json.loads(Storage(parent).read("metrics.json")).get("trained_until", ""))


def prepare(model: FoundationModel, config: FineTuneConfig) -> None:
    """Let only those weights of a model move that the mode lets, adapters added."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(
            config.mode == "full" or (config.mode == "frozen" and name.startswith(_AFTER_THE_BODY))
        )
    if config.mode == "adapters":
        for layer in list(adapted(model)):
            change = LowRank(layer.weight, config.rank, table=isinstance(layer, nn.Embedding))
            parametrize.register_parametrization(layer, "weight", change)


def merged(model: FoundationModel) -> FoundationModel:
    """The same model with its adapters in its weights."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    return model


def trainable(model: FoundationModel) -> dict[str, Any]:
    """How many weights can move, and their share of the model's own."""
    moving = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    added = sum(
        change.numel() for layer in model.modules() if isinstance(layer, LowRank) for change in layer.parameters()
    )
    own = sum(parameter.numel() for parameter in model.parameters()) - added
    return {"trained_parameters": moving, "trained_share": moving / own}


def adapted(model: FoundationModel) -> Iterator[nn.Linear | nn.Embedding]:
    """All matrices but those of the gates, so that few weights move in a small model too."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding) and name.startswith(_ADAPTED) and "gate" not in name:
            yield layer
