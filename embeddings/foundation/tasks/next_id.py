"""The next title as its semantic id, digit by digit: generation."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from embeddings.foundation.generation.beam_search import search
from embeddings.foundation.generation.id_head import IdHead
from embeddings.foundation.generation.trie import Trie
from embeddings.foundation.metrics import K
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.semantic_ids import SemanticIds
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.reading import states_of
from embeddings.foundation.tasks.task import Kind, Task
from embeddings.foundation.tokens import Batch

if TYPE_CHECKING:
    from embeddings.foundation.tasks.learner import TaskLearner

_BEAM = 50
_MEMBERS = 32


class NextId(Task):
    """Codebooks and ids are those of the model's own titles before the training of tasks, and stay."""

    name = "next_id"
    kind: Kind = "generate"

    def __init__(self, model: FoundationModel) -> None:
        super().__init__()
        with torch.no_grad():
            vectors = model.known_titles()[1].numpy()
        self.books = SemanticIds.fit(vectors)
        self.ids = self.books.assign(vectors)
        self.head, self.trie = IdHead(self.books), Trie.of(self.ids, vectors)

    def loss(self, learner: "TaskLearner", batch: Batch) -> torch.Tensor:
        """Cross-entropy of the digits before the last among those that exist, each target with its weight."""
        asked, model = batch.targets > 0, learner.model
        members = model.vectors(states_of(model, batch, learner.config.context_dropout)) * model.scale
        weights = batch.weights[asked] / batch.weights[asked].sum()
        return (weights * self.head.loss(members, self.trie, batch.targets[asked] - 1)).sum()

    @torch.no_grad()
    def score(self, model: FoundationModel, questions: Questions) -> float:
        """Recall@10 of titles generated with a beam of 50, those seen before left out."""
        members = model.vectors(questions.states(model)) * model.scale
        found, _ = self.generated(members, model.known_titles()[1], self.met(questions), K)
        return float((found == questions.targets()[:, None] - 1).any(dim=1).float().mean()) if len(found) else 0.0

    def generated(
        self, members: torch.Tensor, titles: torch.Tensor, met: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, count) rows of titles for (b, dim) members that carry the temperature, and their log-chances."""
        self.eval()
        trie = Trie.of(self.ids, titles.numpy())
        parts = zip(members.split(_MEMBERS), met.split(_MEMBERS), strict=True)  # type: ignore[no-untyped-call]
        found = [search(self.head, trie, some, titles, count, _BEAM, seen) for some, seen in parts]
        return torch.cat([rows for rows, _ in found]), torch.cat([scores for _, scores in found])

    def met(self, questions: Questions) -> torch.Tensor:
        """(asked, titles): what had been seen before each question."""
        queries = questions.queries
        met = np.zeros((len(queries), len(self.ids)), bool)
        owner = np.repeat(np.arange(len(queries)), np.diff(queries.seen_starts))
        met[owner[queries.seen >= 0], queries.seen[queries.seen >= 0]] = True
        return torch.from_numpy(met[questions.asked])
