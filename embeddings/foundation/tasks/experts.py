"""A task-wise mixture of low-rank experts on a body that stays as it is.

Every matrix W of the body becomes W + Σ_e g_e(task) · ΔW_e with low-rank ΔW_e (LoRA, Hu et al. 2021): one expert shared
by all tasks, one for those that represent, one for those that generate (RecFound, arXiv 2506.11999). The gates g are a
softmax over the experts that a task may use, from a learned embedding of the task, one for each matrix. For one
task the sum is a plain matrix again: `alone` gives the ordinary model that the task sees.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

import torch
from torch import nn
from torch.nn.utils import parametrize

from embeddings.foundation.fine_tuning import LowRank, adapted
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.task import Task

_EMBEDDING = 16


class Router(nn.Module):
    """Which experts each task listens to, for each matrix."""

    allowed: torch.Tensor

    def __init__(self, allowed: torch.Tensor, matrices: int) -> None:
        super().__init__()
        tasks, experts = allowed.shape
        self.register_buffer("allowed", allowed)
        self.tasks = nn.Embedding(tasks, _EMBEDDING)
        self.gates = nn.Linear(_EMBEDDING, matrices * experts)
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)
        self.now, self.task = self.mix(0), 0

    def mix(self, task: int) -> torch.Tensor:
        """(matrices, experts): the gates of a task; those it may use are 1 on the average, the others 0."""
        gates = self.gates(self.tasks.weight[task]).view(-1, self.allowed.shape[1])
        shares = torch.softmax(gates.masked_fill(~self.allowed[task], float("-inf")), dim=1)
        return shares * self.allowed[task].sum()

    @contextmanager
    def on(self, task: int) -> Iterator[None]:
        """While this lasts, the model is that of one task, whose weights are mixed once."""
        self.now, self.task = self.mix(task), task
        try:
            with parametrize.cached():  # type: ignore[no-untyped-call]
                yield
        finally:
            self.now = self.now.detach()

    def heard(self, place: int) -> Iterator[tuple[int, torch.Tensor]]:
        """The experts that the present task may use, and the gate of each for a matrix."""
        for expert in self.allowed[self.task].nonzero().flatten().tolist():
            yield expert, self.now[place, expert]


class Mixture(nn.Module):
    """The experts of one matrix."""

    def __init__(self, weight: torch.Tensor, rank: int, table: bool, place: int, router: Router) -> None:
        super().__init__()
        self.place, self._router = place, (router,)  # in a tuple: the router belongs to the model, not to each matrix
        self.experts = [LowRank(weight, rank, table) for _ in range(router.allowed.shape[1])]
        self.weights = nn.ModuleList(self.experts)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the present task sees."""
        mixed = weight
        for expert, gate in self._router[0].heard(self.place):
            mixed = mixed + gate * self.experts[expert].change(weight)
        return mixed


def mixed(model: FoundationModel, tasks: Sequence[Task], mixture: bool, rank: int) -> Router:
    """Freeze a model and give every matrix of it experts; all that can still move are they, their router, the heads."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))
    kinds = [task.kind for task in tasks]
    experts = ["shared", *sorted(set(kinds))] if mixture else ["shared"]
    allowed = torch.tensor([[expert in ("shared", kind) for expert in experts] for kind in kinds])
    layers = list(adapted(model))
    router = Router(allowed, len(layers))
    for place, layer in enumerate(layers):
        mixture_of = Mixture(layer.weight, rank, isinstance(layer, nn.Embedding), place, router)
        parametrize.register_parametrization(layer, "weight", mixture_of)
    model.add_module("router", router)
    return router


def alone(model: FoundationModel, router: Router, task: int, parent: FoundationModel) -> FoundationModel:
    """The ordinary model that a task sees, of the same modules as its `parent`: the experts are in its weights."""
    plain = copy.deepcopy(parent).requires_grad_(False).eval()
    with router.on(task), torch.no_grad():
        for name, weight in plain.named_parameters():
            weight.copy_(attrgetter(name)(model))
    return plain
