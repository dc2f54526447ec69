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
