"""Training of several tasks on the experts of one trained model, whose own weights stay as they are."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.finiteness import weights_fault
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
from stores.errors import TrainingError, UsageError
from stores.storage import Storage

_NORM = 0.01
"""Of the gradient of every turn: less than any has by itself. Adam takes no notice of the size of gradients, but where
tasks take turns, the one with the largest would leave little to move for the others."""


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
        """Write each task's model, and the generator beside its own, below a models folder; their ids by task.

        Raises TrainingError where one of them is not finite or tells nothing apart; then none is written.
        """
        for name, model in self.models.items():
            checkpoint.require_sound(model, f"the task {name}")
        if NextId.name in self.tasks and (fault := weights_fault(self.tasks[NextId.name].state_dict().items())):
            raise TrainingError(
                f"the head of the task {NextId.name}: {fault}",
                where="training of tasks",
                fix="lower tasks.learning_rate",
            )
        ids = {
            name: checkpoint.write(
                Checkpoint(model, parent.vocabulary, parent.config), models, {"task": name, **self.report["kept"][name]}
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = Course(parent, histories, catalogue, config, tasks, seed)
        course.run()
        return course.trained()


def task_of(name: TaskName, model: FoundationModel) -> Task:
    """A task by its name, for a model."""
    plain: dict[str, type[Task]] = {task.name: task for task in (NextTitle, NextGenre, Completion, CoMembers)}
    if name in SURFACES:
        return NextOnSurface(name, SURFACES[name])
    return NextId(model) if name == NextId.name else plain[name]()


class Course:
    """Rounds of turns, a measurement before each where it is needed, and the mixture of rounds at the end."""

    def __init__(
        self,
        parent: Checkpoint,
        histories: pa.Table,
        catalogue: pa.Table,
        config: FoundationConfig,
        tasks: TasksConfig,
        seed: int,
    ) -> None:
        begun = time.process_time()
        self.parent, self.config, self.random = parent.model, tasks, np.random.default_rng(seed)
        lesson = Lesson.of(histories, catalogue, config, seed, parent.vocabulary)
        title_ids = catalogue[columns.TITLE_ID].combine_chunks()
        held = held_out(last_new(histories, title_ids), config.training, seed)
        asked = np.sort(self.random.permutation(held)[: tasks.questions])
        model = copy.deepcopy(parent.model)
        self.questions = Questions.of(histories, parent.vocabulary, asked, min(model.length, tasks.window))
        made = [task_of(name, model) for name in tasks.names]
        router = mixed(model, made, tasks.experts == "mixture", tasks.rank)
        self.steps = tasks.steps_per_task * len(made)
        changes = {"learning_rate": tasks.learning_rate, "clip": _NORM, "future_share": 0.0}
        training = config.training.model_copy(update=changes)
        share = lesson.masked_share(training.masked_ids)
        self.learner = TaskLearner(model, training, self.steps, share, router=router, tasks=made)
        self.batches = [self.learner.batches(at, lesson.tokens, seed + at) for at in range(len(made))]
        self.scheduler, self.rounds = Scheduler(tasks, len(made)), list[Tensors]()
        self.kept: dict[str, dict[str, Any]] = {task.name: {} for task in made}
        self.seconds = time.process_time() - begun

    def run(self) -> None:
        """Train; before each round measure what turns or merging ask for."""
        begun = time.process_time()
        for turns in np.array_split(np.arange(self.steps), self.config.rounds):
            self._measure()
            for task in self.random.permutation(self.scheduler.turns(len(turns))):
                self.learner.turn(int(task), next(self.batches[task]))
        self.seconds += time.process_time() - begun

    def _measure(self) -> None:
        if self.config.scheduled or self.config.merge:
            self.scheduler.note([self.learner.judged(at, self.questions) for at in range(len(self.batches))])
        if self.config.merge:
            self.rounds.append({name: weight.detach().clone() for name, weight in self._moving()})

    def trained(self, merge: bool = True) -> TrainedTasks:
        """The ordinary model of each task, as it is now or, where it is configured, after merging."""
        begun, models, merge = time.process_time(), {}, merge and self.config.merge
        if merge:
            self._measure()
        for at, task in enumerate(self.learner.tasks):
            if merge:
                self._merge(at)
            models[task.name] = alone(self.learner.model, self.learner.router, at, self.parent)
        self.seconds += time.process_time() - begun
        return TrainedTasks(models, {task.name: task for task in self.learner.tasks}, self._report())

    def _merge(self, at: int) -> None:
        """Let the model, and what the task brought along, be what is best for the task."""

        def judge(state: Tensors) -> float:
            self._restore(state, at)
            return self.learner.judged(at, self.questions)

        losses = [each[at] for each in self.scheduler.losses]
        kept, shares, lost = merged(self.rounds, losses, judge)
        self._restore(kept, at)
        self.kept[self.learner.tasks[at].name] = {
            "rounds": shares,
            "first": losses[0],
            "last": losses[-1],
            "loss": lost,
        }

    def _moving(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """All that the training changes, by name."""
        yield from ((name, weight) for name, weight in self.learner.model.named_parameters() if weight.requires_grad)
        for task in self.learner.tasks:
            yield from task.named_parameters(prefix=task.name)

    @torch.no_grad()
    def _restore(self, state: Tensors, at: int) -> None:
        """Take weights back, of what tasks bring along only those of one."""
        others = tuple(f"{task.name}." for other, task in enumerate(self.learner.tasks) if other != at)
        for name, weight in self._moving():
            if not name.startswith(others):
                weight.copy_(state[name])

    def _report(self) -> dict[str, Any]:
        """The losses before each round and its shares of the turns; per task what merging kept, and what that loses."""
        return {
            "tasks": [task.name for task in self.learner.tasks],
            "steps": self.steps,
            "processor_seconds": self.seconds,
            "losses": self.scheduler.losses,
            "shares": self.scheduler.dealt,
            "kept": dict(self.kept),
        }
