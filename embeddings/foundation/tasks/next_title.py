"""The next title, of all or of one surface: the title that is met by a play, by a trailer, by a thumb."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.ranking import gain
from embeddings.foundation.tasks.task import Task
from embeddings.foundation.tokens import NO_TARGET, Batch, Tokens
from stores.columns import ACTIONS

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner


class NextTitle(Task):
    """What the model was made for."""

    name = "next_title"

    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """Softmax over titles, as in the training of the model."""
        return learner.title_loss(batch)

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """NDCG without a cut."""
        return gain(model.vectors(questions.states(model)), model.known_titles()[1], questions)


class NextOnSurface(NextTitle):
    """The next title that is met in one way."""

    def __init__(self, name: str, actions: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.bits = name, sum(1 << ACTIONS.index(action) for action in actions)

    def view(self, tokens: Tokens) -> Tokens:
        """Targets that were met in this way alone."""
        after = np.append(tokens.actions[1:], 0)
        return replace(tokens, targets=np.where(after & self.bits, tokens.targets, NO_TARGET))


SURFACES = {"trailers": ("trailer",), "plays": ("play",), "thumbs": ("thumb_up", "rate")}
