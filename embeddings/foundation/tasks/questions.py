"""What a training of tasks is judged by: histories that end with one held-out target each, in full knowledge of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation.encoding import batches_of
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.queries import Events, Ints, Queries, ask, cut
from embeddings.foundation.tasks.reading import states_of
from embeddings.foundation.tokens import NO_TARGET, POST, Batch, Tokens
from embeddings.foundation.vocabulary import Vocabulary

_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Questions:
    """n questions: their histories with the answers (`tokens`), the position `at` of each, and what had been seen."""

    tokens: Tokens
    at: Ints
    queries: Queries
    length: int

    @classmethod
    def of(cls, histories: pa.Table, vocabulary: Vocabulary, asked: Ints, length: int) -> "Questions":
        """Questions whose answers are the tokens `asked` (flat positions in the histories, in order)."""
        events = Events.of(histories, vocabulary.title_ids)
        owner, places = events.owner[asked], events.places()[asked]
        tokens = Tokens.of(cut(histories, owner, places + 1), vocabulary)
        at = tokens.starts[1:] - 2
        tokens.codes[at, len(POST) :] = 0
        return cls(tokens, at, ask(histories, vocabulary.title_ids, asked), length)

    def seen_by(self, tokens: Tokens) -> "Questions":
        """The same, with the targets that a task's view of the tokens leaves."""
        return replace(self, tokens=tokens)

    @property
    def asked(self) -> np.ndarray:
        """(n,) which questions have a target."""
        return self.tokens.targets[self.at] > 0

    def targets(self) -> torch.Tensor:
        """Vocabulary rows of the answers that are asked for."""
        return torch.from_numpy(self.tokens.targets[self.at[self.asked]])

    def batches(self) -> Iterator[tuple[Ints, Batch]]:
        """Which of the questions, and the windows that end with them and ask nothing else."""
        rows = np.flatnonzero(self.asked)
        lengths = np.minimum(self.at - self.tokens.starts[:-1] + 1, self.length)
        padded = 1 << np.ceil(np.log2(lengths[rows])).astype(np.int64)  # few groups: each costs as much as its longest
        for chosen in batches_of(padded, _BATCH_TOKENS):
            some = rows[chosen]
            batch = self.tokens.windows(self.at[some] - lengths[some] + 1, lengths[some])
            last = torch.arange(batch.targets.shape[1]) == torch.from_numpy(lengths[some] - 1)[:, None]
            yield chosen, replace(batch, targets=batch.targets.masked_fill(~last, NO_TARGET))

    @torch.no_grad()
    def states(self, model: FoundationModel) -> torch.Tensor:
        """(asked, width) states at the questions, in their order."""
        model.eval()
        found = torch.zeros(int(self.asked.sum()), model.transformer.project.in_features)
        for chosen, batch in self.batches():
            found[chosen] = states_of(model, batch)
        return found
