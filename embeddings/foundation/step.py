"""One optimisation step: titles of the batch through the tower once, positions through the transformer, the loss."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.objective import full_softmax, sampled_uniform
from embeddings.foundation.tokens import Batch
from embeddings.foundation.vocabulary import UNKNOWN_TITLE


@dataclass
class Learner:
    """A model with its optimiser and the schedule of its learning rate: warm-up, then half a cosine to zero."""

    model: FoundationModel
    config: TrainingConfig
    steps: int
    masked_share: float
    """Share of titles whose id is hidden in a step, as titles are that nobody has met."""
    optimiser: torch.optim.Optimizer = field(init=False)
    done: int = 0

    def __post_init__(self) -> None:
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if p.dim() < 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(
            groups,
            lr=self.config.learning_rate,
            betas=self.config.betas,
            weight_decay=self.config.weight_decay,
            fused=True,
        )

    def step(self, batch: Batch) -> float:
        """Learn from a batch; the mean loss of its targets."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.done += 1
        return loss.item()

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean loss over the targets of a batch."""
        asked = batch.targets > 0
        targets = batch.targets[asked]
        candidates = self._candidates()
        rows, index = torch.unique(torch.cat([batch.titles.flatten(), targets, candidates]), return_inverse=True)
        inputs, outputs = self._titles(rows)
        before, right, drawn = index.split([batch.titles.numel(), len(targets), len(candidates)])
        drop = torch.rand(batch.titles.shape) < self.config.context_dropout
        states = self.model.members(batch, inputs, before.view(batch.titles.shape), drop)
        members = self.model.transformer.vectors(states[asked]) * self.model.scale
        scores = members @ outputs[drawn].T
        if len(candidates) == self._known:
            return full_softmax(scores, targets - 1).mean()
        positive = (members * outputs[right]).sum(dim=1)
        return sampled_uniform(positive, scores, right[:, None] == drawn[None, :], self._known).mean()

    @property
    def _known(self) -> int:
        return len(self.model.known_codes) - 2

    def _candidates(self) -> torch.Tensor:
        """All titles of a small catalogue, else as many as configured, drawn with replacement."""
        if self._known <= max(self.config.full_softmax_titles, self.config.negatives):
            return torch.arange(1, self._known + 1)
        return torch.randint(1, self._known + 1, (self.config.negatives,))

    def _titles(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and output vectors of titles, some of them without their id and as on their launch day."""
        features = self.model.known.take(rows)
        hidden = (torch.rand(len(rows)) < self.masked_share) & (rows <= self._known)
        launched = features.signals.masked_fill(hidden[:, None], 0.0)
        parts = self.model.tower.parts(torch.where(hidden, UNKNOWN_TITLE, rows), features.codes, features.content)
        return self.model.tower.inputs(parts), self.model.tower.outputs(parts, launched)

    def _rate(self) -> float:
        warm = max(1, round(self.config.warm_up * self.steps))
        if self.done < warm:
            return (self.done + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (self.done - warm) / max(1, self.steps - warm)))
