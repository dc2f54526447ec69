"""Tasks on one model: their protocol, the held-out queries they are evaluated on, and the forward pass over them."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from embeddings.foundation.encode import length_batches
from embeddings.foundation.evaluation_queries import EventTable, Ints, Queries, build_queries, truncate_histories
from embeddings.foundation.metrics import inner_product_scorer, ndcg_gains, rank_titles
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import NO_TARGET, POST_COLUMNS, Batch, TokenSequences
from embeddings.foundation.vocabulary import Vocabulary

if TYPE_CHECKING:
    from embeddings.foundation.tasks.trainer import TaskTrainStep

_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class EvalQueries:
    """n questions: their histories with the answers (`tokens`), the position `at` of each, and what had been seen."""

    tokens: TokenSequences
    positions: Ints
    queries: Queries
    length: int

    @classmethod
    def of(cls, histories: pa.Table, vocabulary: Vocabulary, asked: Ints, length: int) -> "EvalQueries":
        """Questions whose answers are the tokens `asked` (flat positions in the histories, in order)."""
        events = EventTable.of(histories, vocabulary.title_ids)
        owner, places = events.owner[asked], events.positions()[asked]
        tokens = TokenSequences.of(truncate_histories(histories, owner, places + 1), vocabulary)
        at = tokens.starts[1:] - 2
        tokens.codes[at, len(POST_COLUMNS) :] = 0
        return cls(tokens, at, build_queries(histories, vocabulary.title_ids, asked), length)

    def for_task(self, tokens: TokenSequences) -> "EvalQueries":
        """The same, with the targets that a task's view of the tokens leaves."""
        return replace(self, tokens=tokens)

    @property
    def has_target(self) -> np.ndarray:
        """(n,) which questions have a target."""
        return self.tokens.targets[self.positions] > 0

    def targets(self) -> torch.Tensor:
        """Vocabulary rows of the answers that are asked for."""
        return torch.from_numpy(self.tokens.targets[self.positions[self.has_target]])

    def batches(self) -> Iterator[tuple[Ints, Batch]]:
        """Which of the questions, and the windows that end with them and ask nothing else."""
        rows = np.flatnonzero(self.has_target)
        lengths = np.minimum(self.positions - self.tokens.starts[:-1] + 1, self.length)
        padded = 1 << np.ceil(np.log2(lengths[rows])).astype(np.int64)  # few groups: each costs as much as its longest
        for chosen in length_batches(padded, _BATCH_TOKENS):
            some = rows[chosen]
            batch = self.tokens.windows(self.positions[some] - lengths[some] + 1, lengths[some])
            last = torch.arange(batch.targets.shape[1]) == torch.from_numpy(lengths[some] - 1)[:, None]
            yield chosen, replace(batch, targets=batch.targets.masked_fill(~last, NO_TARGET))

    @torch.no_grad()
    def states(self, model: FoundationModel) -> torch.Tensor:
        """(asked, width) states at the questions, in their order."""
        model.eval()
        found = torch.zeros(int(self.has_target.sum()), model.transformer.project.in_features)
        for chosen, batch in self.batches():
            found[chosen] = target_states(model, batch)
        return found


Kind = Literal["represent", "generate"]


class Task(nn.Module):
    """One thing that the model is asked for. What it needs beyond the model are its own parameters."""

    name: str
    kind: Kind = "represent"

    def view(self, tokens: TokenSequences) -> TokenSequences:
        """The same positions with only the targets that this task asks for."""
        return tokens

    @abstractmethod
    def loss(self, learner: "TaskTrainStep", batch: Batch) -> torch.Tensor:
        """The mean loss over the targets of a batch that has some."""

    @abstractmethod
    def score(self, model: FoundationModel, questions: EvalQueries) -> float:
        """How well the model does, by the measure of this task: more is better."""


def target_states(model: FoundationModel, batch: Batch, dropped: float = 0.0) -> torch.Tensor:
    """(p, width) states at the p targets of a batch, a share of the positions without their request context."""
    rows, index = torch.unique(batch.titles, return_inverse=True)
    features = model.known_features.take(rows)
    inputs = model.tower.inputs(model.tower.parts(rows, features.codes, features.content))
    drop = torch.rand(batch.titles.shape) < dropped
    return model.members(batch, inputs, index, drop)[batch.targets > 0]


def title_vectors_with_grad(model: FoundationModel, rows: torch.Tensor) -> torch.Tensor:
    """(n,) vocabulary rows to (n, dim) unit vectors."""
    some, index = torch.unique(rows, return_inverse=True)
    return model.titles(some, model.known_features.take(some))[index]


def ranking_ndcg(members: torch.Tensor, titles: torch.Tensor, questions: EvalQueries) -> float:
    """Mean of the `gains` over the questions asked: (asked, dim) vectors against (n, dim) ones.

    NDCG without a cut, as `metrics.Ranking.gain`.
    """
    everyone = np.zeros((len(questions.queries), titles.shape[1]), np.float32)
    everyone[questions.has_target] = members.numpy()
    ranks = rank_titles(inner_product_scorer(everyone, titles.numpy()), questions.queries, len(titles)).ranks[
        questions.has_target
    ]
    return float(ndcg_gains(ranks).mean()) if len(ranks) else 0.0
