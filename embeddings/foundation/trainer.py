"""Train a model: steps, the running mean of the weights, validations, the best weights, saving."""

import copy
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from embeddings.foundation import checkpoint
from embeddings.foundation.batches import endless_batches
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, num_steps
from embeddings.foundation.finiteness import find_weights_fault
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.process_group import SINGLE_PROCESS, ProcessGroup
from embeddings.foundation.train_state import (
    Tensors,
    TrainStateFile,
    join_prefixed,
    optimiser_tensors,
    restore_optimiser,
    take_prefix,
)
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData
from stores.errors import TrainingError
from stores.files.filesystem import Storage

__all__ = ["TrainedModel", "TrainingProgress", "train"]

_TRAINING_PAST_DIVISOR = 10
"""One in so many of the events that are pooled in encoding is drawn in training."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands: `ndcg` is the NDCG@10 of the last validation, NaN before the first."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    ndcg: float


class Trainer:
    """The loop of a training, and the best weights it has met."""

    def __init__(
        self,
        lesson: TrainingData,
        config: FoundationConfig,
        parent: Checkpoint | None = None,
        team: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.lesson, self.config, self.team = lesson, config.training, team
        self.steps = num_steps(config.training, int(lesson.tokens.lengths.sum()), warm=parent is not None)
        model = lesson.model(config, parent)
        self.learner = TrainStep(model, self.config, self.steps, lesson.id_dropout(self.config.id_dropout_range), team)
        self.averaged = copy.deepcopy(model)
        self.kept: dict[str, torch.Tensor] = {}
        self.metrics: dict[str, float] = {}
        self.last, self.worse, self.seen, self.begun = math.nan, 0, 0, time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the steps are spent or validation has long stopped improving."""
        return self.learner.steps_done == self.steps or self.worse >= self.config.patience

    def run(self, seed: int, progress: Callable[[TrainingProgress], None], unfinished: TrainStateFile) -> None:
        """Train until finished, from where the same training was killed, if it was.

        Raises TrainingError where a loss, a gradient, the weights or the vectors are not finite; what was kept of the
        training is removed, since it would lead there again.
        """
        try:
            self._run(seed, progress, unfinished)
        except TrainingError:
            if self.team.is_main:
                unfinished.remove()
            raise

    def _run(self, seed: int, progress: Callable[[TrainingProgress], None], unfinished: TrainStateFile) -> None:
        every = max(1, self.steps // self.config.num_validations)
        if state := unfinished.load():
            self._restore(*state)
        model = self.learner.model
        past = 0 if model.is_windowed else -(-model.past_events // _TRAINING_PAST_DIVISOR)
        batches = endless_batches(self.lesson.tokens, model.length, self.team.local_config(self.config), seed, past)
        batches = itertools.islice(self.team.shard(batches), self.learner.steps_done, None)
        while not self.finished:
            batch = next(batches)
            loss = self.learner.step(batch)
            self._update_ema()
            self.seen += self.team.size * int(batch.valid.sum())
            if self.learner.steps_done % every == 0 or self.learner.steps_done == self.steps:
                self._validate()
                if self.team.is_main:
                    unfinished.save(*self._state())
            progress(self._progress(loss))

    def _state(self) -> tuple[Tensors, dict[str, Any]]:
        tensors = join_prefixed(
            model=self.learner.model.state_dict(),
            averaged=self.averaged.state_dict(),
            kept=self.kept,
            optimiser=optimiser_tensors(self.learner.optimiser),
            random={"torch": torch.get_rng_state()},
        )
        facts = {"done": self.learner.steps_done, "worse": self.worse, "seen": self.seen, "metrics": self.metrics}
        return tensors, {**facts, "last": self.last, "spent": time.monotonic() - self.begun}

    def _restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        self.learner.model.load_state_dict(take_prefix(tensors, "model/"))
        self.averaged.load_state_dict(take_prefix(tensors, "averaged/"))
        self.kept = take_prefix(tensors, "kept/")
        restore_optimiser(self.learner.optimiser, take_prefix(tensors, "optimiser/"))
        torch.set_rng_state(tensors["random/torch"])
        self.learner.steps_done, self.worse, self.seen = facts["done"], facts["worse"], facts["seen"]
        self.metrics, self.last, self.begun = facts["metrics"], facts["last"], time.monotonic() - facts["spent"]

    @torch.no_grad()
    def _update_ema(self) -> None:
        """A running mean of the weights that forgets faster at the start, lest random weights hold it back."""
        done = self.learner.steps_done - 1
        decay = min(self.config.ema_decay, (1 + done) / (10 + done)) if done else 0.0
        mean: list[torch.Tensor] = list(self.averaged.parameters())
        current: list[torch.Tensor] = list(self.learner.model.parameters())
        torch._foreach_lerp_(mean, current, 1 - decay)

    def _validate(self) -> None:
        """Keep the averaged weights if they are the best so far."""
        if fault := find_weights_fault(self.averaged.state_dict().items()):
            raise self._diverged(f"the averaged {fault}")
        try:
            ranking = self.lesson.validate(self.averaged)
        except TrainingError as error:
            raise self._diverged(error.what) from error
        found, gain = self.team.broadcast((ranking.metrics(), ranking.full_ndcg()))
        self.last, self.worse = found["ndcg@10"], self.worse + 1
        if not self.kept or gain > self.metrics["ndcg"]:
            self.kept = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
            self.metrics, self.worse = {**found, "ndcg": gain, "best_step": self.learner.steps_done}, 0

    def _diverged(self, fault: str) -> TrainingError:
        return TrainingError(
            f"after step {self.learner.steps_done} of {self.steps} {fault}",
            where="training; no model was written",
            expected="finite numbers",
            fix=f"lower {self.learner.RATE}",
        )

    def best_model(self) -> FoundationModel:
        """The model with the best weights."""
        self.learner.model.load_state_dict(self.kept)
        self.learner.model.eval()
        return self.learner.model

    def training_report(self) -> dict[str, Any]:
        """Metrics of the best weights and what the training took."""
        spent = time.monotonic() - self.begun
        return {
            **self.metrics,
            "questions": len(self.lesson.queries),
            "steps": self.learner.steps_done,
            "seconds": spent,
            "tokens_per_second": self.seen / spent,
            "temperature": 1 / self.best_model().scale.item(),
            "length": self.learner.model.length,
            "parameters": sum(p.numel() for p in self.learner.model.parameters()),
        }

    def _progress(self, loss: float) -> TrainingProgress:
        spent, done = time.monotonic() - self.begun, self.learner.steps_done
        return TrainingProgress(done, self.steps, loss, self.seen / spent, spent * (self.steps / done - 1), self.last)


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
    progress: Callable[[TrainingProgress], None] | None = None,
    parent: str | Path | None = None,
) -> TrainedModel:
    """Train on histories (`columns.history_schema`) and a catalogue; save below the models folder `out`.

    With the folder of an earlier model as `parent` it is a warm start: `config.training.warm_start_step_fraction` of
    the steps. The same input and seed give the same weights on one machine, also where a training was killed and is
    called again. Threads are torch's own (`OMP_NUM_THREADS`). Raises ContractError where there is nothing to learn
    from, and as `checkpoint.read`. With `config.workers` above one a Ray of that many processes does it, untold of
    progress.
    """
    models, before = Storage(str(out)), str(parent) if parent is not None else None
    if config.workers > 1:
        from embeddings.foundation.distributed import train_on_workers  # ray.train takes seconds to import

        return train_on_workers(train_local, histories, catalogue, config, seed, models, before)
    return train_local(histories, catalogue, config, seed, models, progress, before)


def train_local(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    models: Storage,
    progress: Callable[[TrainingProgress], None] | None = None,
    parent: str | None = None,
    team: ProcessGroup = SINGLE_PROCESS,
) -> TrainedModel:
    """What `train` does, in this process: one of a team, or alone. Raises MismatchError where a team disagrees."""
    before, parent_id = checkpoint.load_checkpoint(parent) if parent is not None else (None, None)
    lesson = TrainingData.of(histories, catalogue, config, seed)
    unfinished = TrainStateFile.of(models, lesson, config, seed, before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = Trainer(lesson, config, before, team)
        course.run(seed, progress or (lambda _: None), unfinished)
    trained = Checkpoint(course.best_model(), lesson.vocabulary, config)
    team.check_equal_weights(trained.model)
    metrics = {
        **course.training_report(),
        "trained_until": newest_event_time(histories),
        "parent": parent_id,
        "baselines": lesson.baselines(),
    }
    model_id = team.broadcast(checkpoint.save_checkpoint(trained, models, metrics) if team.is_main else None)
    if team.is_main:
        unfinished.remove()
    return TrainedModel(model_id, models.subfolder(model_id).uri, metrics)


def newest_event_time(histories: pa.Table) -> str:
    """The time of the last event, as ISO 8601."""
    return str(pc.max(pc.list_flatten(histories["last_time"])).as_py().isoformat())
