"""A task-wise mixture of low-rank experts on a body that stays as it is.

Every matrix W of the body becomes W + Σ_e g_e(task) · ΔW_e with low-rank ΔW_e (LoRA, Hu et al. 2021): one expert shared
by all tasks, one by those that represent, one by those that generate (RecFound, arXiv 2506.11999), and one of its own
for each task, where what others learn cannot undo what it learned. The gates g are a softmax over the experts that a
task may use, from a learned embedding of the task, one for each matrix. For one task the sum is a plain matrix again:
`alone` gives the ordinary model that the task sees.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

import torch
from torch import nn
from torch.nn.utils import parametrize

from embeddings.foundation.fine_tuning import LowRankAdapter, adapted_matrices
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.task import Task

_TASK_EMBEDDING_DIM = 16


class Router(nn.Module):
    """Which experts each task listens to, for each matrix."""

    allowed: torch.Tensor

    def __init__(self, allowed: torch.Tensor, matrices: int) -> None:
        super().__init__()
        tasks, experts = allowed.shape
        self.register_buffer("allowed", allowed)
        self.tasks = nn.Embedding(tasks, _TASK_EMBEDDING_DIM)
        self.gates = nn.Linear(_TASK_EMBEDDING_DIM, matrices * experts)
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)
        self.now, self.heard = self.mix(0), self._allowed_experts(0)

    def mix(self, task: int) -> torch.Tensor:
        """(matrices, experts): the gates of a task; those it may use are 1 on the average, the others 0."""
        gates = self.gates(self.tasks.weight[task]).view(-1, self.allowed.shape[1])
        shares = torch.softmax(gates.masked_fill(~self.allowed[task], float("-inf")), dim=1)
        return shares * self.allowed[task].sum()

    @contextmanager
    def on(self, task: int) -> Iterator[None]:
        """While this lasts, the model is that of one task, whose weights are mixed once."""
        self.now, self.heard = self.mix(task), self._allowed_experts(task)
        try:
            with parametrize.cached():
                yield
        finally:
            self.now = self.now.detach()

    def _allowed_experts(self, task: int) -> list[int]:
        """The experts that a task may use."""
        return [expert for expert, heard in enumerate(self.allowed[task].tolist()) if heard]


class Mixture(nn.Module):
    """The experts of one matrix."""

    def __init__(self, weight: torch.Tensor, rank: int, table: bool, place: int, router: Router) -> None:
        super().__init__()
        self.place, self._router = place, (router,)  # in a tuple: the router belongs to the model, not to each matrix
        self.experts = [LowRankAdapter(weight, rank, table) for _ in range(router.allowed.shape[1])]
        self.weights = nn.ModuleList(self.experts)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the present task sees."""
        router, rank = self._router[0], len(self.experts[0].down)
        heard = [self.experts[expert] for expert in router.heard]
        gates = router.now[self.place, router.heard].repeat_interleave(rank)
        up = torch.cat([expert.up for expert in heard], dim=1) * gates
        down = torch.cat([expert.down for expert in heard])
        return torch.addmm(weight, weight @ up if self.experts[0].table else up, down)


def add_experts(model: FoundationModel, tasks: Sequence[Task], mixture: bool, rank: int) -> Router:
    """Freeze a model and give every matrix of it experts; all that can still move are they, their router, the heads."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))
    others = [*sorted({task.kind for task in tasks}), *(task.name for task in tasks)]
    experts = ["shared", *(others if mixture else ())]
    allowed = torch.tensor([[expert in ("shared", task.kind, task.name) for expert in experts] for task in tasks])
    layers = list(adapted_matrices(model))
    router = Router(allowed, len(layers))
    for place, layer in enumerate(layers):
        mixture_of = Mixture(layer.weight, rank, isinstance(layer, nn.Embedding), place, router)
        parametrize.register_parametrization(layer, "weight", mixture_of)
    model.add_module("router", router)
    return router


def merge_experts(model: FoundationModel, router: Router, task: int, parent: FoundationModel) -> FoundationModel:
    """The ordinary model that a task sees, of the same modules as its `parent`: the experts are in its weights."""
    plain = copy.deepcopy(parent).requires_grad_(False).eval()
    with router.on(task), torch.no_grad():
        for name, weight in plain.named_parameters():
            weight.copy_(attrgetter(name)(model))
    return plain
