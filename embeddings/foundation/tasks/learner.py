"""Steps of a training of tasks: each of them one task's, on the experts that it listens to."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch.nn.utils import get_total_norm

from embeddings.foundation.batches import endless
from embeddings.foundation.step import Learner
from embeddings.foundation.tasks.experts import Router
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.task import Task
from embeddings.foundation.tokens import Batch, Tokens
from stores.errors import ContractError, TrainingError


@dataclass
class TaskLearner(Learner):
    """The optimiser of the experts, of their router and of what the tasks bring along."""

    router: Router = field(kw_only=True)
    tasks: list[Task] = field(kw_only=True)

    RATE: ClassVar[str] = "tasks.learning_rate"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.optimiser.add_param_group({"params": [weight for task in self.tasks for weight in task.parameters()]})
        self.present = self.tasks[0]

    def turn(self, number: int, batch: Batch) -> float:
        """One step of a task; its mean loss."""
        self.present = self.tasks[number]
        with self.router.on(number):
            return self.step(batch)

    def loss(self, batch: Batch) -> torch.Tensor:
        """That of the present task."""
        loss = self.present.loss(self, batch)
        self.terms = {f"task {self.present.name}": loss.detach()}
        return loss

    def _clip(self) -> torch.Tensor:
        """As for the model alone; what the tasks bring along is not clipped, but counts in the norm."""
        own = [weight.grad for task in self.tasks for weight in task.parameters() if weight.grad is not None]
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack([super()._clip(), get_total_norm(own)]))
        return norm

    def _gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from super()._gradients()
        for task in self.tasks:
            for name, weight in task.named_parameters(prefix=task.name):
                if weight.grad is not None:
                    yield name, weight.grad

    def title_loss(self, batch: Batch) -> torch.Tensor:
        """The loss of the model's own training."""
        return super().loss(batch)

    @torch.no_grad()
    def judged(self, number: int, questions: Questions) -> float:
        """The mean loss of a task over its questions; what is drawn in it is drawn alike every time.

        Raises TrainingError where it is not finite.
        """
        task, total, asked = self.tasks[number], 0.0, 0
        self.model.eval()
        with self.router.on(number), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for chosen, batch in questions.seen_by(task.view(questions.tokens)).batches():
                total += len(chosen) * float(task.loss(self, batch))
                asked += len(chosen)
        if not math.isfinite(total):
            raise TrainingError(
                f"after {self.done} of {self.steps} steps the loss of the task {task.name} on held-out questions "
                f"is {total:g}",
                where="training of tasks; no model was written",
                expected="a finite number",
                fix=f"lower {self.RATE}, or leave the task out of tasks.names",
            )
        return total / max(1, asked)

    def batches(self, number: int, tokens: Tokens, seed: int) -> Iterator[Batch]:
        """Batches that ask something of a task, without end. Raises ContractError where nothing is ever asked."""
        view = self.tasks[number].view(tokens)
        if not (view.targets > 0).any():
            raise ContractError(
                f"no event is a target of the task {self.tasks[number].name}",
                where="interactions",
                fix="leave it out of tasks.names",
            )
        return (batch for batch in endless(view, self.model.length, self.config, seed) if (batch.targets > 0).any())
