"""The genres of the next title."""

from typing import TYPE_CHECKING

import torch

from embeddings.foundation.heads import of_values
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.reading import states_of
from embeddings.foundation.tasks.task import Task
from embeddings.foundation.tokens import Batch
from stores.errors import UsageError

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner

GENRES = "genres"


class NextGenre(Task):
    """Learned by the model's own head of genres, whose gradient reaches the experts."""

    name = "next_genre"

    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """Cross-entropy with the even mix of the title's genres."""
        model = learner.model
        return of_values(_logits(model, states_of(model, batch, learner.config.context_dropout)), _genres(model, batch))

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """How often the likeliest genre is one of the title's, of the titles that have one."""
        best = _logits(model, questions.states(model)).argmax(dim=1) + 1
        listed = model.known_codes[questions.targets(), model.heads.places[GENRES]]
        known = (listed > 0).any(dim=1)
        return float((listed == best[:, None]).any(dim=1)[known].float().mean()) if known.any() else 0.0


def _logits(model: FoundationModel, states: torch.Tensor) -> torch.Tensor:
    if GENRES not in model.heads.values:
        raise UsageError("this model knows no genres", where="next_genre", expected="a catalogue with genres")
    logits: torch.Tensor = model.heads.values[GENRES](model.transformer.norm(states))
    return logits


def _genres(model: FoundationModel, batch: Batch) -> torch.Tensor:
    return model.known_codes[batch.targets[batch.targets > 0]][:, model.heads.places[GENRES]]
