"""Train several tasks on one model: sampling of tasks by convergence, steps, averaging of weights.

Beginning with the round that is best for the task, rounds are added to the mean one after the other as long as that
helps (greedy soups, Wortsman et al. 2022). The first "round" is the model before any: a task that has nothing to
learn stays near it, one that learned too much goes part of the way back.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.nn.utils import get_total_norm

from embeddings.foundation import checkpoint
from embeddings.foundation.batches import endless_batches
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, TaskName, TasksConfig
from embeddings.foundation.evaluation_queries import last_new_title
from embeddings.foundation.finiteness import find_weights_fault
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.semantic_id_generation import Generator
from embeddings.foundation.sequences import Batch, TokenSequences
from embeddings.foundation.tasks.experts import Router, add_experts, merge_experts
from embeddings.foundation.tasks.objectives import (
    ACTIONS_BY_SURFACE,
    Completion,
    CoWatch,
    NextGenre,
    NextId,
    NextOnSurface,
    NextTitle,
)
from embeddings.foundation.tasks.task import EvalQueries, Task
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData, hold_out_tokens
from stores import schema
from stores.errors import ContractError, TrainingError, UsageError
from stores.files.filesystem import Storage

Tensors = dict[str, torch.Tensor]


def model_soup(
    rounds: Sequence[Tensors], losses: Sequence[float], judge: Callable[[Tensors], float]
) -> tuple[Tensors, list[float], float]:
    """The mixed weights, the share of each round in them, and what is lost with them.

    `losses` (rounds,) are those of each round, `judge` says that of other weights. Never worse than the best round.
    """
    order = sorted(range(len(rounds)), key=losses.__getitem__)
    taken, best = [order[0]], losses[order[0]]
    for candidate in order[1:]:
        lost = judge(mean_weights([rounds[at] for at in [*taken, candidate]]))
        if lost < best:
            taken, best = [*taken, candidate], lost
    shares = [(at in taken) / len(taken) for at in range(len(rounds))]
    return mean_weights([rounds[at] for at in taken]), shares, best


def mean_weights(states: Sequence[Tensors]) -> Tensors:
    """The mean of weights of the same names and shapes."""
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}


Shares = npt.NDArray[np.float64]


class TaskSampler:
    """The losses so far, and the shares of the tasks in the next round."""

    def __init__(self, config: TasksConfig, tasks: int) -> None:
        self.config, self.tasks = config, tasks
        self.losses: list[list[float]] = []
        self.dealt: list[list[float]] = []

    def record(self, losses: list[float]) -> None:
        """The loss of each task before a round; after the last one too where rounds are merged."""
        self.losses.append(losses)

    def sample_tasks(self, count: int) -> npt.NDArray[np.int64]:
        """(count,) tasks, ascending: so many turns each as its share of them says, to the nearest whole."""
        ends = np.rint(np.cumsum(self.shares()) * count).astype(np.int64)
        return np.repeat(np.arange(self.tasks), np.diff(ends, prepend=0))

    def shares(self) -> Shares:
        """(tasks,) shares of the steps of the next round; they are kept in `dealt`."""
        rounds = len(self.losses) - 1
        shares = np.full(self.tasks, 1 / self.tasks)
        if self.config.adaptive_sampling and rounds >= max(1, self.config.warmup_rounds):
            least = self.config.min_share
            shares = least * shares + (1 - least) * self._relative_progress()
        self.dealt.append(shares.tolist())
        return shares

    def _relative_progress(self) -> Shares:
        """What each task gained in the last round, relative to its first loss, as shares of one."""
        first, before, now = (np.array(self.losses[at]) for at in (0, -2, -1))
        progress = np.maximum(before - now, 0) / np.maximum(first, 1e-9)
        total = progress.sum()
        return progress / total if total > 0 else np.full(self.tasks, 1 / self.tasks)


@dataclass
class TaskTrainStep(TrainStep):
    """The optimiser of the experts, of their router and of what the tasks bring along."""

    router: Router = field(kw_only=True)
    tasks: list[Task] = field(kw_only=True)

    RATE: ClassVar[str] = "tasks.learning_rate"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.optimiser.add_param_group({"params": [weight for task in self.tasks for weight in task.parameters()]})
        self.present = self.tasks[0]

    def task_step(self, number: int, batch: Batch) -> float:
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
    def validation_loss(self, number: int, questions: EvalQueries) -> float:
        """The mean loss of a task over its questions; what is drawn in it is drawn alike every time.

        Raises TrainingError where it is not finite.
        """
        task, total, asked = self.tasks[number], 0.0, 0
        self.model.eval()
        with self.router.on(number), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for chosen, batch in questions.for_task(task.view(questions.tokens)).batches():
                total += len(chosen) * float(task.loss(self, batch))
                asked += len(chosen)
        if not math.isfinite(total):
            raise TrainingError(
                f"after {self.steps_done} of {self.steps} steps the loss of the task {task.name} on held-out questions "
                f"is {total:g}",
                where="training of tasks; no model was written",
                expected="a finite number",
                fix=f"lower {self.RATE}, or leave the task out of tasks.names",
            )
        return total / max(1, asked)

    def batches(self, number: int, tokens: TokenSequences, seed: int) -> Iterator[Batch]:
        """Batches that ask something of a task, without end. Raises ContractError where nothing is ever asked."""
        view = self.tasks[number].view(tokens)
        if not (view.targets > 0).any():
            raise ContractError(
                f"no event is a target of the task {self.tasks[number].name}",
                where="interactions",
                fix="leave it out of tasks.names",
            )
        return (
            batch for batch in endless_batches(view, self.model.length, self.config, seed) if (batch.targets > 0).any()
        )


_NORM_EPSILON = 0.01
"""Of the gradient of every turn: less than any has by itself. Adam takes no notice of the size of gradients, but where
tasks take turns, the one with the largest would leave little to move for the others."""


@dataclass(frozen=True)
class TrainedTasks:
    """A model for each task, and how the training went."""

    models: dict[str, FoundationModel]
    tasks: dict[str, Task]
    report: dict[str, Any]

    def scores(self, questions: EvalQueries) -> dict[str, float]:
        """How well each task does on questions, by its own measure."""
        views = {name: questions.for_task(task.view(questions.tokens)) for name, task in self.tasks.items()}
        return {name: task.score(self.models[name], views[name]) for name, task in self.tasks.items()}

    def save(self, parent: Checkpoint, models: Storage) -> dict[str, str]:
        """Write each task's model, and the generator beside its own, below a models folder; their ids by task.

        Raises TrainingError where one of them is not finite or tells nothing apart; then none is written.
        """
        for name, model in self.models.items():
            checkpoint.require_sound(model, f"the task {name}")
        if NextId.name in self.tasks and (fault := find_weights_fault(self.tasks[NextId.name].state_dict().items())):
            raise TrainingError(
                f"the head of the task {NextId.name}: {fault}",
                where="training of tasks",
                fix="lower tasks.learning_rate",
            )
        ids = {
            name: checkpoint.save_checkpoint(
                Checkpoint(model, parent.vocabulary, parent.config), models, {"task": name, **self.report["kept"][name]}
            )
            for name, model in self.models.items()
        }
        if NextId.name in ids:
            self.generator(parent).save(models.subfolder(ids[NextId.name]))
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
    if not parent.model.is_windowed:
        raise UsageError(
            "this model pools what lies before its window", where="tasks", expected="a model without latents"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = TaskTrainer(parent, histories, catalogue, config, tasks, seed)
        course.run()
        return course.extract_models()


def create_task(name: TaskName, model: FoundationModel) -> Task:
    """A task by its name, for a model."""
    plain: dict[str, type[Task]] = {task.name: task for task in (NextTitle, NextGenre, Completion, CoWatch)}
    if name in ACTIONS_BY_SURFACE:
        return NextOnSurface(name, ACTIONS_BY_SURFACE[name])
    return NextId(model) if name == NextId.name else plain[name]()


class TaskTrainer:
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
        lesson = TrainingData.of(histories, catalogue, config, seed, parent.vocabulary)
        title_ids = catalogue[schema.TITLE_ID].combine_chunks()
        held = hold_out_tokens(last_new_title(histories, title_ids), config.training, seed)
        asked = np.sort(self.random.permutation(held)[: tasks.max_eval_queries])
        model = copy.deepcopy(parent.model)
        self.questions = EvalQueries.of(histories, parent.vocabulary, asked, min(model.length, tasks.eval_window))
        made = [create_task(name, model) for name in tasks.names]
        router = add_experts(model, made, tasks.experts == "mixture", tasks.rank)
        self.steps = tasks.steps_per_task * len(made)
        changes = {"learning_rate": tasks.learning_rate, "max_grad_norm": _NORM_EPSILON, "future_target_fraction": 0.0}
        training = config.training.model_copy(update=changes)
        share = lesson.id_dropout(training.id_dropout_range)
        self.learner = TaskTrainStep(model, training, self.steps, share, router=router, tasks=made)
        self.batches = [self.learner.batches(at, lesson.tokens, seed + at) for at in range(len(made))]
        self.scheduler, self.rounds = TaskSampler(tasks, len(made)), list[Tensors]()
        self.kept: dict[str, dict[str, Any]] = {task.name: {} for task in made}
        self.seconds = time.process_time() - begun

    def run(self) -> None:
        """Train; before each round measure what turns or merging ask for."""
        begun = time.process_time()
        for turns in np.array_split(np.arange(self.steps), self.config.rounds):
            self._measure()
            for task in self.random.permutation(self.scheduler.sample_tasks(len(turns))):
                self.learner.task_step(int(task), next(self.batches[task]))
        self.seconds += time.process_time() - begun

    def _measure(self) -> None:
        if self.config.adaptive_sampling or self.config.merge:
            self.scheduler.record([self.learner.validation_loss(at, self.questions) for at in range(len(self.batches))])
        if self.config.merge:
            self.rounds.append({name: weight.detach().clone() for name, weight in self._trainable_state()})

    def extract_models(self, merge: bool = True) -> TrainedTasks:
        """The ordinary model of each task, as it is now or, where it is configured, after merging."""
        begun, models, merge = time.process_time(), {}, merge and self.config.merge
        if merge:
            self._measure()
        for at, task in enumerate(self.learner.tasks):
            if merge:
                self._merge(at)
            models[task.name] = merge_experts(self.learner.model, self.learner.router, at, self.parent)
        self.seconds += time.process_time() - begun
        return TrainedTasks(models, {task.name: task for task in self.learner.tasks}, self._report())

    def _merge(self, at: int) -> None:
        """Let the model, and what the task brought along, be what is best for the task."""

        def judge(state: Tensors) -> float:
            self._restore(state, at)
            return self.learner.validation_loss(at, self.questions)

        losses = [each[at] for each in self.scheduler.losses]
        kept, shares, lost = model_soup(self.rounds, losses, judge)
        self._restore(kept, at)
        self.kept[self.learner.tasks[at].name] = {
            "rounds": shares,
            "first": losses[0],
            "last": losses[-1],
            "loss": lost,
        }

    def _trainable_state(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """All that the training changes, by name."""
        yield from ((name, weight) for name, weight in self.learner.model.named_parameters() if weight.requires_grad)
        for task in self.learner.tasks:
            yield from task.named_parameters(prefix=task.name)

    @torch.no_grad()
    def _restore(self, state: Tensors, at: int) -> None:
        """Take weights back, of what tasks bring along only those of one."""
        others = tuple(f"{task.name}." for other, task in enumerate(self.learner.tasks) if other != at)
        for name, weight in self._trainable_state():
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
