"""Training: learn within a budget of steps, keep the averaged weights that predict the held-out titles best."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from torch.optim.swa_utils import AveragedModel

from embeddings.foundation import checkpoint
from embeddings.foundation.batches import endless
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, steps_for
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.step import Learner
from stores.storage import Storage


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `ndcg` is the NDCG@10 of the last validation, NaN before the first."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    ndcg: float


@dataclass(frozen=True)
class TrainedModel:
    """A saved model: its id, its folder, and how well it did on its own held-out targets."""

    model_id: str
    path: str
    metrics: dict[str, Any]


def train(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedModel:
    """Train on histories (`columns.history_schema`) and a catalogue; save below the models folder `out`.

    The same input and seed give the same weights on one machine. Threads are torch's own
    (`OMP_NUM_THREADS`). Raises ContractError where there is nothing to learn from.
    """
    lesson = Lesson.of(histories, catalogue, config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = _Course(lesson, config)
        course.run(seed, progress or (lambda _: None))
    trained = Checkpoint(course.best(), lesson.vocabulary, config)
    metrics = {**course.report(), "baselines": lesson.baselines()}
    models = Storage(str(out))
    model_id = checkpoint.write(trained, models, metrics)
    return TrainedModel(model_id, models.below(model_id).uri, metrics)


class _Course:
    """The loop of a training, and the best weights it has met."""

    def __init__(self, lesson: Lesson, config: FoundationConfig) -> None:
        self.lesson, self.config = lesson, config.training
        self.steps = steps_for(config.training, int(lesson.tokens.lengths.sum()))
        model = lesson.model(config)
        self.learner = Learner(model, self.config, self.steps, lesson.masked_share(self.config.masked_ids))
        self.average = AveragedModel(model, avg_fn=_average(self.config.average))
        self.averaged = cast(FoundationModel, self.average.module)
        self.kept: dict[str, torch.Tensor] = {}
        self.metrics: dict[str, float] = {}
        self.last, self.worse, self.seen, self.begun = math.nan, 0, 0, time.monotonic()

    def run(self, seed: int, progress: Callable[[Progress], None]) -> None:
        """Train until the steps are spent or validation has long stopped improving."""
        every = max(1, self.steps // self.config.evaluations)
        for batch in endless(self.lesson.tokens, self.learner.model.length, self.config.batch_tokens, seed):
            loss = self.learner.step(batch)
            self.average.update_parameters(self.learner.model)
            self.seen += int(batch.valid.sum())
            if self.learner.done % every == 0 or self.learner.done == self.steps:
                self._validate()
            progress(self._progress(loss))
            if self.learner.done == self.steps or self.worse >= self.config.patience:
                return

    def _validate(self) -> None:
        """Keep the averaged weights if they are the best so far."""
        ranking = self.lesson.judge(self.averaged)
        found, gain = ranking.metrics(), ranking.gain()
        self.last, self.worse = found["ndcg@10"], self.worse + 1
        if not self.kept or gain > self.metrics["ndcg"]:
            self.kept = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
            self.metrics, self.worse = {**found, "ndcg": gain, "best_step": self.learner.done}, 0

    def best(self) -> FoundationModel:
        """The model with the best weights."""
        self.learner.model.load_state_dict(self.kept)
        self.learner.model.eval()
        return self.learner.model

    def report(self) -> dict[str, Any]:
        """Metrics of the best weights and what the training took."""
        spent = time.monotonic() - self.begun
        return {
            **self.metrics,
            "steps": self.learner.done,
            "seconds": spent,
            "tokens_per_second": self.seen / spent,
            "temperature": 1 / self.best().scale.item(),
            "length": self.learner.model.length,
            "parameters": sum(p.numel() for p in self.learner.model.parameters()),
        }

    def _progress(self, loss: float) -> Progress:
        spent, done = time.monotonic() - self.begun, self.learner.done
        return Progress(done, self.steps, loss, self.seen / spent, spent * (self.steps / done - 1), self.last)


def _average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """A running mean of weights that forgets faster at the start, so that it is not held back by random weights."""

    def mean(averaged: torch.Tensor, current: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        done = int(updates)
        return torch.lerp(current, averaged, min(decay, (1 + done) / (10 + done)))

    return mean
