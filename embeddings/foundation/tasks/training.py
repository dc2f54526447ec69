"""Training of several tasks on the experts of one trained model, whose own weights stay as they are."""

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.generation.generator import Generator
from embeddings.foundation.lesson import Lesson, held_out
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.queries import last_new
from embeddings.foundation.tasks.co_members import CoMembers
from embeddings.foundation.tasks.completion import Completion
from embeddings.foundation.tasks.config import TaskName, TasksConfig
from embeddings.foundation.tasks.experts import alone, mixed
from embeddings.foundation.tasks.learner import TaskLearner
from embeddings.foundation.tasks.merging import Tensors, merged
from embeddings.foundation.tasks.next_genre import NextGenre
from embeddings.foundation.tasks.next_id import NextId
from embeddings.foundation.tasks.next_title import SURFACES, NextOnSurface, NextTitle
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.scheduler import Scheduler
from embeddings.foundation.tasks.task import Task
from stores import columns
from stores.errors import UsageError
from stores.storage import Storage


@dataclass(frozen=True)
class TrainedTasks:
    """A model for each task, and how the training went."""

    models: dict[str, FoundationModel]
    tasks: dict[str, Task]
    report: dict[str, Any]

    def scores(self, questions: Questions) -> dict[str, float]:
        """How well each task does on questions, by its own measure."""
        views = {name: questions.seen_by(task.view(questions.tokens)) for name, task in self.tasks.items()}
        return {name: task.score(self.models[name], views[name]) for name, task in self.tasks.items()}

    def save(self, parent: Checkpoint, models: Storage) -> dict[str, str]:
        """Write each task's model, and the generator beside its own, below a models folder; their ids by task."""
        losses = {name: each["kept"] for name, each in self.report["merging"].items()}
        ids = {
            name: checkpoint.write(
                Checkpoint(model, parent.vocabulary, parent.config), models, {"task": name, "loss": losses[name]}
            )
            for name, model in self.models.items()
        }
        if NextId.name in ids:
            self.generator(parent).save(models.below(ids[NextId.name]))
        return ids

    def generator(self, parent: Checkpoint) -> Generator:
        """What generates titles. Raises UsageError where the task was not among those trained."""
        task = self.tasks.get(NextId.name)
        if not isinstance(task, NextId):
            raise UsageError("no task generates", where="tasks", expected=NextId.name)
        trained = Checkpoint(self.models[NextId.name], parent.vocabulary, parent.config)
        return Generator(trained, task.head.eval(), task.books, task.ids)


def train_tasks(
    parent: Checkpoint,
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    tasks: TasksConfig,
    seed: int,
) -> TrainedTasks:
    """Teach experts on a trained model the configured tasks; the same input and seed give the same weights.

    `histories` may be those that the model learned from. Raises ContractError where a task has no target, UsageError
    for a model with latents or without the head that a task needs.
    """
    if not parent.model.plain:
        raise UsageError(
            "this model pools what lies before its window", where="tasks", expected="a model without latents"
        )
    begun = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = _Course(parent, histories, catalogue, config, tasks, seed)
        course.run()
    names = [task.name for task in course.learner.tasks]
    models = {
        name: alone(course.learner.model, course.learner.router, at, parent.model) for at, name in enumerate(names)
    }
    report = {**course.report(), "seconds": time.monotonic() - begun}
    return TrainedTasks(models, dict(zip(names, course.learner.tasks, strict=True)), report)


def task_of(name: TaskName, model: FoundationModel) -> Task:
    """A task by its name, for a model."""
    plain: dict[str, type[Task]] = {task.name: task for task in (NextTitle, NextGenre, Completion, CoMembers)}
    if name in SURFACES:
        return NextOnSurface(name, SURFACES[name])
    return NextId(model) if name == NextId.name else plain[name]()


class _Course:
    """Rounds of turns, a measurement after each, and the mixture of rounds at the end."""

    def __init__(
        self,
        parent: Checkpoint,
        histories: pa.Table,
        catalogue: pa.Table,
        config: FoundationConfig,
        tasks: TasksConfig,
        seed: int,
    ) -> None:
        self.config, self.random = tasks, np.random.default_rng(seed)
        lesson = Lesson.of(histories, catalogue, config, seed, parent.vocabulary)
        title_ids = catalogue[columns.TITLE_ID].combine_chunks()
        held = held_out(last_new(histories, title_ids), config.training, seed)
        asked = np.sort(self.random.permutation(held)[: tasks.questions])
        model = copy.deepcopy(parent.model)
        self.questions = Questions.of(histories, parent.vocabulary, asked, model.length)
        made = [task_of(name, model) for name in tasks.names]
        router = mixed(model, made, tasks.experts == "mixture", tasks.rank)
        self.steps = tasks.steps_per_task * len(made)
        training = config.training.model_copy(update={"learning_rate": tasks.learning_rate, "future_share": 0.0})
        share = lesson.masked_share(training.masked_ids)
        self.learner = TaskLearner(model, training, self.steps, share, router=router, tasks=made)
        self.batches = [self.learner.batches(at, lesson.tokens, seed + at) for at in range(len(made))]
        self.scheduler, self.rounds, self.shares = Scheduler(tasks, len(made)), list[Tensors](), list[float]()

    def run(self) -> None:
        """Train, measure, and keep the mixture."""
        self.scheduler.note(self._losses())
        for turns in np.array_split(np.arange(self.steps), self.config.rounds):
            self._round(len(turns))
            self.scheduler.note(self._losses())
            self.rounds.append(self._state())
        if self.config.merge:
            kept, self.shares = merged(self.rounds, self.scheduler.losses[1:], self._judged)
            self._restore(kept)

    def _round(self, turns: int) -> None:
        for task in self.random.choice(len(self.batches), turns, p=self.scheduler.shares()):
            self.learner.turn(int(task), next(self.batches[task]))

    def _losses(self) -> list[float]:
        return [self.learner.judged(at, self.questions) for at in range(len(self.batches))]

    def _moving(self) -> dict[str, torch.nn.Parameter]:
        """All that the training changes, by name."""
        own = {name: weight for name, weight in self.learner.model.named_parameters() if weight.requires_grad}
        brought = {
            f"{task.name}/{name}": weight for task in self.learner.tasks for name, weight in task.named_parameters()
        }
        return own | brought

    def _state(self) -> Tensors:
        return {name: weight.detach().clone() for name, weight in self._moving().items()}

    @torch.no_grad()
    def _restore(self, state: Tensors) -> None:
        for name, weight in self._moving().items():
            weight.copy_(state[name])

    def _judged(self, state: Tensors) -> list[float]:
        self._restore(state)
        return self._losses()

    def report(self) -> dict[str, Any]:
        """Per round the losses (the first before any) and the shares of the turns; what merging took and gave."""
        names = [task.name for task in self.learner.tasks]
        last, kept = self.scheduler.losses[-1], self._losses()
        return {
            "tasks": names,
            "steps": self.steps,
            "losses": self.scheduler.losses,
            "shares": self.scheduler.dealt,
            "merged": self.shares,
            "merging": {name: {"last": a, "kept": b} for name, a, b in zip(names, last, kept, strict=True)},
        }
