"""The course of a training: steps, the running mean of the weights, validations, and the best weights met."""

import copy
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from embeddings.foundation.batches import endless
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, steps_for
from embeddings.foundation.finiteness import weights_fault
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.resume import Tensors, Unfinished, joined, optimiser_tensors, part, restore_optimiser
from embeddings.foundation.step import Learner
from embeddings.foundation.team import ALONE, Team
from stores.errors import TrainingError

_PAST_OF_TRAINING = 10
"""One in so many of the events that are pooled in encoding is drawn in training."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `ndcg` is the NDCG@10 of the last validation, NaN before the first."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    ndcg: float


class Course:
    """The loop of a training, and the best weights it has met."""

    def __init__(
        self, lesson: Lesson, config: FoundationConfig, parent: Checkpoint | None = None, team: Team = ALONE
    ) -> None:
        self.lesson, self.config, self.team = lesson, config.training, team
        self.steps = steps_for(config.training, int(lesson.tokens.lengths.sum()), warm=parent is not None)
        model = lesson.model(config, parent)
        self.learner = Learner(model, self.config, self.steps, lesson.masked_share(self.config.masked_ids), team)
        self.averaged = copy.deepcopy(model)
        self.kept: dict[str, torch.Tensor] = {}
        self.metrics: dict[str, float] = {}
        self.last, self.worse, self.seen, self.begun = math.nan, 0, 0, time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the steps are spent or validation has long stopped improving."""
        return self.learner.done == self.steps or self.worse >= self.config.patience

    def run(self, seed: int, progress: Callable[[Progress], None], unfinished: Unfinished) -> None:
        """Train until finished, from where the same training was killed, if it was.

        Raises TrainingError where a loss, a gradient, the weights or the vectors are not finite; what was kept of the
        training is removed, since it would lead there again.
        """
        try:
            self._run(seed, progress, unfinished)
        except TrainingError:
            if self.team.leads:
                unfinished.remove()
            raise

    def _run(self, seed: int, progress: Callable[[Progress], None], unfinished: Unfinished) -> None:
        every = max(1, self.steps // self.config.evaluations)
        if state := unfinished.load():
            self._restore(*state)
        model = self.learner.model
        past = 0 if model.plain else -(-model.past_events // _PAST_OF_TRAINING)
        batches = endless(self.lesson.tokens, model.length, self.team.part(self.config), seed, past)
        batches = itertools.islice(self.team.deal(batches), self.learner.done, None)
        while not self.finished:
            batch = next(batches)
            loss = self.learner.step(batch)
            self._average()
            self.seen += self.team.size * int(batch.valid.sum())
            if self.learner.done % every == 0 or self.learner.done == self.steps:
                self._validate()
                if self.team.leads:
                    unfinished.save(*self._state())
            progress(self._progress(loss))

    def _state(self) -> tuple[Tensors, dict[str, Any]]:
        tensors = joined(
            model=self.learner.model.state_dict(),
            averaged=self.averaged.state_dict(),
            kept=self.kept,
            optimiser=optimiser_tensors(self.learner.optimiser),
            random={"torch": torch.get_rng_state()},
        )
        facts = {"done": self.learner.done, "worse": self.worse, "seen": self.seen, "metrics": self.metrics}
        return tensors, {**facts, "last": self.last, "spent": time.monotonic() - self.begun}

    def _restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        self.learner.model.load_state_dict(part(tensors, "model/"))
        self.averaged.load_state_dict(part(tensors, "averaged/"))
        self.kept = part(tensors, "kept/")
        restore_optimiser(self.learner.optimiser, part(tensors, "optimiser/"))
        torch.set_rng_state(tensors["random/torch"])
        self.learner.done, self.worse, self.seen = facts["done"], facts["worse"], facts["seen"]
        self.metrics, self.last, self.begun = facts["metrics"], facts["last"], time.monotonic() - facts["spent"]

    @torch.no_grad()
    def _average(self) -> None:
        """A running mean of the weights that forgets faster at the start, lest random weights hold it back."""
        done = self.learner.done - 1
        decay = min(self.config.average, (1 + done) / (10 + done)) if done else 0.0
        mean: list[torch.Tensor] = list(self.averaged.parameters())
        current: list[torch.Tensor] = list(self.learner.model.parameters())
        torch._foreach_lerp_(mean, current, 1 - decay)

    def _validate(self) -> None:
        """Keep the averaged weights if they are the best so far."""
        if fault := weights_fault(self.averaged.state_dict().items()):
            raise self._diverged(f"the averaged {fault}")
        try:
            ranking = self.lesson.judge(self.averaged)
        except TrainingError as error:
            raise self._diverged(error.what) from error
        found, gain = self.team.agreed((ranking.metrics(), ranking.gain()))
        self.last, self.worse = found["ndcg@10"], self.worse + 1
        if not self.kept or gain > self.metrics["ndcg"]:
            self.kept = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
            self.metrics, self.worse = {**found, "ndcg": gain, "best_step": self.learner.done}, 0

    def _diverged(self, fault: str) -> TrainingError:
        return TrainingError(
            f"after step {self.learner.done} of {self.steps} {fault}",
            where="training; no model was written",
            expected="finite numbers",
            fix=f"lower {self.learner.RATE}",
        )

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
            "questions": len(self.lesson.queries),
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
