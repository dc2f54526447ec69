"""Titles of the same members lie together: the title before tells the next one, whoever watches."""

from typing import TYPE_CHECKING

import torch

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.objective import shared_softmax
from embeddings.foundation.step import columns_of
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.ranking import gain
from embeddings.foundation.tasks.reading import titles_of
from embeddings.foundation.tasks.task import Task
from embeddings.foundation.tokens import Batch
from embeddings.foundation.vocabulary import UNKNOWN_TITLE

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner


class CoMembers(Task):
    """A contrast of titles with titles, through the tower alone."""

    name = "co_members"

    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """Softmax of the products of a title with all others, temperature and negatives as in the model's loss."""
        model, asked = learner.model, batch.targets > 0
        before, after = batch.titles[asked], batch.targets[asked]
        drawn = learner.candidates()
        vectors = titles_of(model, torch.cat([before, after, drawn]))
        ours, right, others = vectors.tensor_split([len(before), 2 * len(before)])
        ours = ours * model.scale
        left_out = torch.stack([columns_of(drawn, after), columns_of(drawn, before)], dim=1)
        known = (before != UNKNOWN_TITLE).float()
        weights = known / known.sum().clamp(min=1)
        each = learner.known / len(drawn)
        return shared_softmax(ours, others, (ours * right).sum(dim=1, keepdim=True), left_out, weights, each)

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """NDCG without a cut of the answer among the titles nearest to the title before."""
        model.eval()
        before = torch.from_numpy(questions.tokens.titles[questions.at[questions.asked]])
        return gain(titles_of(model, before), model.known_titles()[1], questions)
