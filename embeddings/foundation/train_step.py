"""One optimisation step: titles of the batch through the tower once, positions through the transformer, the loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.finiteness import format_names, nonfinite_names
from embeddings.foundation.loss import sampled_softmax_loss
from embeddings.foundation.metadata import PLAYS_SIGNAL
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.process_group import SINGLE_PROCESS, ProcessGroup
from embeddings.foundation.sequences import Batch
from embeddings.foundation.vocabulary import UNKNOWN_TITLE
from stores.errors import TrainingError


@dataclass
class TrainStep:
    """A model with its optimiser and the schedule of its learning rate: warm-up, then half a cosine to zero."""

    model: FoundationModel
    config: TrainingConfig
    steps: int
    id_dropout: float
    """Share of titles whose id is hidden in a step, as titles are that nobody has met."""
    team: ProcessGroup = SINGLE_PROCESS
    optimiser: torch.optim.Optimizer = field(init=False)
    steps_done: int = 0
    terms: dict[str, torch.Tensor] = field(init=False, default_factory=dict)
    """What the last loss is the sum of, by name."""

    RATE: ClassVar[str] = "train.training.learning_rate"
    """The setting of the learning rate, for messages."""

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
        """Learn from a batch; the mean loss of its targets.

        Raises TrainingError where the loss or its gradient is not finite; the weights then stay as they were.
        """
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._learning_rate()
        self.team.seed_step(self.steps_done)
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.team.all_reduce_gradients(self.model)
        # After the processes met, so that all of them stop at the same step.
        self._require_finite(loss, self._clip())
        self.optimiser.step()
        self.steps_done += 1
        return loss.item()

    def _clip(self) -> torch.Tensor:
        """Scale the gradient of the model to the largest norm allowed; its norm before."""
        moving = [weight for weight in self.model.parameters() if weight.grad is not None]
        norm: torch.Tensor = get_total_norm([weight.grad for weight in moving if weight.grad is not None])
        if norm.isfinite():  # else the gradients stay as they are, and can be named
            clip_grads_with_norm_(moving, self.config.max_grad_norm, norm)
        return norm

    def _require_finite(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        if loss.isfinite() and norm.isfinite():
            return
        if not loss.isfinite():
            terms = ", ".join(f"{name} {float(term):g}" for name, term in self.terms.items())
            what = f"the loss is {loss.item():g} ({terms})"
        else:
            names = format_names(nonfinite_names(self._gradients())) or "its entries are too large to add up"
            what = f"the norm of the gradient is {norm.item():g} ({names})"
        raise TrainingError(
            f"at step {self.steps_done + 1} of {self.steps} {what}",
            where="training; no model was written",
            expected="finite numbers",
            fix=f"lower {self.RATE}, or train with another --seed; "
            "if the first step fails, look at what the lake holds: values, durations and content vectors",
        )

    def _gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The gradient of every weight that has one, by name."""
        for name, weight in self.model.named_parameters():
            if weight.grad is not None:
                yield name, weight.grad

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean loss over the targets of a batch, each with its weight."""
        asked = batch.targets > 0
        targets, candidates = batch.targets[asked], self.candidates()
        older = torch.zeros(0, 0, dtype=torch.long) if batch.past is None else batch.past.titles
        parts = [batch.titles, older, targets, candidates]
        rows, index = torch.unique(torch.cat([part.flatten() for part in parts]), return_inverse=True)
        inputs, outputs, unknown = self._titles(rows)
        before, past, right, drawn = index.split([part.numel() for part in parts])
        if batch.past is not None:
            batch = replace(batch, past=replace(batch.past, titles=past.view(older.shape)))
        drop = torch.rand(batch.titles.shape) < self.config.context_dropout
        states = self.model.members(batch, inputs, before.view(batch.titles.shape), drop)[asked]
        members = self.model.vectors(states) * self.model.scale
        weights = batch.weights[asked] / batch.weights[asked].sum()
        left_out, each = candidate_columns(candidates, targets)[:, None], self.num_known / len(candidates)

        alike = members * outputs[right]
        widths = [alike.shape[1] // 2, alike.shape[1]] if self.config.matryoshka else [alike.shape[1]]
        positive = torch.stack([alike[:, :width].sum(dim=1) for width in widths], dim=1)
        loss = sampled_softmax_loss(members, outputs[drawn], positive, left_out, weights / len(widths), each)
        heads = self._auxiliary(states, targets, outputs[right], batch.tenths[asked])
        stand_in = self.config.cold_start_loss_weight * (1 - (unknown * outputs.detach()).sum(dim=1)).mean()
        terms = {"next title": loss, **heads, "stand_in": stand_in}
        self.terms = {name: term.detach() for name, term in terms.items()}
        return loss + sum(heads.values(), loss.new_zeros(())) + stand_in

    def _auxiliary(
        self, states: torch.Tensor, targets: torch.Tensor, titles: torch.Tensor, tenths: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What each head loses; only a share of their gradient goes on from them."""
        normed = self.model.transformer.norm(states)

        def seen(head: str) -> tuple[torch.Tensor, torch.Tensor]:
            share = self.config.aux_gradient_fraction if head in self.config.aux_heads else 0.0
            return normed.detach().lerp(normed, share), titles.detach().lerp(titles, share)

        return self.model.heads.losses(seen, self.model.known_codes[targets], tenths)

    @property
    def num_known(self) -> int:
        """How many titles the model knows."""
        return len(self.model.known_codes) - 2

    def candidates(self) -> torch.Tensor:
        """Rows in order: all titles of a small catalogue, else about as many as configured, drawn at random."""
        if self.num_known <= max(self.config.max_full_softmax_titles, self.config.num_negatives):
            return torch.arange(1, self.num_known + 1)
        drawn: torch.Tensor = torch.unique(torch.randint(1, self.num_known + 1, (self.config.num_negatives,)))
        return drawn

    def _titles(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Input and output vectors of titles, some of them without their id, and output vectors of all without it.

        Without its id a title is as on its launch day, when nobody has played it.
        """
        tower, features = self.model.tower, self.model.known_features.take(rows)
        hidden = (torch.rand(len(rows)) < self.id_dropout) & (rows <= self.num_known)
        launched = features.signals.masked_fill(hidden[:, None], 0.0)
        parts = tower.parts(torch.where(hidden, UNKNOWN_TITLE, rows), features.codes, features.content)
        nobody = tower.ids.weight[UNKNOWN_TITLE].expand_as(parts[0])
        unplayed = features.signals.index_fill(1, torch.tensor([PLAYS_SIGNAL]), 0.0)
        return tower.inputs(parts), tower.outputs(parts, launched), tower.outputs((nobody, parts[1]), unplayed)

    def _learning_rate(self) -> float:
        warm = max(1, round(self.config.warmup_fraction * self.steps))
        if self.steps_done < warm:
            return (self.steps_done + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (self.steps_done - warm) / max(1, self.steps - warm)))


def candidate_columns(candidates: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Where each row stands among the sorted candidates; len(candidates) if it does not."""
    place = torch.searchsorted(candidates, rows)
    there = candidates[place.clamp(max=len(candidates) - 1)] == rows
    return torch.where(there, place, len(candidates))
