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
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.train_state import TrainStateFile
from embeddings.foundation.trainer import TrainedModel, Trainer, TrainingProgress, newest_event_time
from embeddings.foundation.training_data import TrainingData
from stores.files.filesystem import Storage

_HEAD_PREFIXES = ("transformer.norm.", "transformer.project.", "tower.trust.", "heads.", "log_temperature")
_ADAPTED_PREFIXES = ("transformer.", "tokens.title", "tower.ids", "tower.metadata.project")


class LowRankAdapter(nn.Module):
    """W + U·D for a matrix W that maps; W + W·U·D for a table W of vectors, all of which it changes alike."""

    def __init__(self, weight: torch.Tensor, rank: int, table: bool) -> None:
        super().__init__()
        self.table = table
        rows, columns = weight.shape
        self.up = nn.Parameter(torch.zeros(columns if table else rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight, of the same shape."""
        return weight + self.delta(weight)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """What is added to a weight."""
        return (weight @ self.up if self.table else self.up) @ self.down


@dataclass(frozen=True)
class FineTuningData(TrainingData):
    """The data of an application, told in the words of a trained model, and that model as it may change."""

    prepared: FoundationModel

    @classmethod
    def on(cls, lesson: TrainingData, model: FoundationModel) -> "FineTuningData":
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
    progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainedModel:
    """Go on training the model in the folder `parent` as `config.fine_tune` says; save below the folder of models.

    The shape is the parent's and the budget that of a warm start, `config.training.warm_start_step_fraction` of the
    steps. Metrics have "fine_tune": the mode, and how many weights moved. The same input and seed give the same
    weights. Raises ContractError where there is nothing to learn from, and as `checkpoint.read`.
    """
    trained, parent_id = checkpoint.load_checkpoint(str(parent))
    config = config.model_copy(update={"network": trained.config.network, "fields": trained.config.fields})
    lesson = TrainingData.of(histories, catalogue, config, seed, trained.vocabulary)
    place = TrainStateFile.of(models, lesson, config, seed, trained)
    place = replace(place, name=place.name.replace("unfinished-", "unfinished-tuning-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        add_adapters(trained.model, config.fine_tune)
        course = Trainer(FineTuningData.on(lesson, trained.model), config, trained)
        course.run(seed, progress or (lambda _: None), place)
    told = {"mode": config.fine_tune.mode, **count_trainable(course.best_model())}
    until = max(newest_event_time(histories), _trained_until(str(parent)))
    metrics = {**course.training_report(), "trained_until": until, "parent": parent_id, "fine_tune": told}
    metrics["baselines"] = lesson.baselines()
    model_id = checkpoint.save_checkpoint(
        Checkpoint(merge_adapters(course.best_model()), trained.vocabulary, config), models, metrics
    )
    place.remove()
    return TrainedModel(model_id, models.subfolder(model_id).uri, metrics)


def _trained_until(parent: str) -> str:
    """Until when the parent's events reach."""
    return str(json.loads(Storage(parent).read("metrics.json")).get("trained_until", ""))


def add_adapters(model: FoundationModel, config: FineTuneConfig) -> None:
    """Let only those weights of a model move that the mode lets, adapters added."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(config.mode == "full" or (config.mode == "frozen" and name.startswith(_HEAD_PREFIXES)))
    if config.mode == "adapters":
        for layer in list(adapted_matrices(model)):
            change = LowRankAdapter(layer.weight, config.rank, table=isinstance(layer, nn.Embedding))
            parametrize.register_parametrization(layer, "weight", change)


def merge_adapters(model: FoundationModel) -> FoundationModel:
    """The same model with its adapters in its weights."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    return model


def count_trainable(model: FoundationModel) -> dict[str, Any]:
    """How many weights can move, and their share of the model's own."""
    moving = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    added = sum(
        change.numel()
        for layer in model.modules()
        if isinstance(layer, LowRankAdapter)
        for change in layer.parameters()
    )
    own = sum(parameter.numel() for parameter in model.parameters()) - added
    return {"trained_parameters": moving, "trained_share": moving / own}


def adapted_matrices(model: FoundationModel) -> Iterator[nn.Linear | nn.Embedding]:
    """All matrices but those of the gates, so that few weights move in a small model too."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding) and name.startswith(_ADAPTED_PREFIXES) and "gate" not in name:
            yield layer
