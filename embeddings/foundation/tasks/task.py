"""What a task is: the targets it asks for, the loss it learns by, and the score it is judged by."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tokens import Batch, Tokens

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner

Kind = Literal["represent", "generate"]


class Task(nn.Module):
    """One thing that the model is asked for. What it needs beyond the model are its own parameters."""

    name: str
    kind: Kind = "represent"

    def view(self, tokens: Tokens) -> Tokens:
        """The same positions with only the targets that this task asks for."""
        return tokens

    @abstractmethod
    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """The mean loss over the targets of a batch that has some."""

    @abstractmethod
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """How well the model does, by the measure of this task: more is better."""


def states_of(model: FoundationModel, batch: Batch, dropped: float = 0.0) -> torch.Tensor:
    """(p, width) states at the p targets of a batch, a share of the positions without their request context."""
    rows, index = torch.unique(batch.titles, return_inverse=True)
    features = model.known.take(rows)
    inputs = model.tower.inputs(model.tower.parts(rows, features.codes, features.content))
    drop = torch.rand(batch.titles.shape) < dropped
    return model.members(batch, inputs, index, drop)[batch.targets > 0]


def titles_of(model: FoundationModel, rows: torch.Tensor) -> torch.Tensor:
    """(n,) vocabulary rows to (n, dim) unit vectors."""
    some, index = torch.unique(rows, return_inverse=True)
    return model.titles(some, model.known.take(some))[index]
