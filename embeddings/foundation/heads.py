"""What else a state says of the next title: its genres, its language, and whether it will be watched through.

Each head is one linear map of the state. With `auxiliary = 0` the heads only read, and what they learn leaves
the vectors alone; above it, that share of the gradient of the `teachers` among them reaches the body. With
`hierarchical` the predicted genres and languages are fed back: first what kind of title, then which ("Foundation Model
for Personalized Recommendation", 2025).
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.metadata import Metadata

Seen = Callable[[str], tuple[torch.Tensor, torch.Tensor]]
"""Of a head's name: states (p, width) and the targets' unit vectors (p, dim), with the gradient it may have on them."""

PREFERENCES = ("genres", "language")
"""The fields whose values are predicted, where the catalogue has them."""
WATCHED_THROUGH = 0.8
"""Share of the runtime from which a title counts as watched through."""


class Heads(nn.Module):
    """Predictions from states (…, width), all linear."""

    def __init__(self, config: NetworkConfig, metadata: Metadata) -> None:
        super().__init__()
        asked = PREFERENCES if config.preferences else ()
        self.places = {field: place for field, place in metadata.places().items() if field in asked}
        sizes = {field: len(metadata.values[field]) for field in self.places}
        self.values = nn.ModuleDict({field: _begun(config.width, size) for field, size in sizes.items()})
        self.watched = _begun(config.width, config.dim) if config.preferences else None
        fed = sizes if config.hierarchical else {}
        self.feeds = nn.ModuleDict({field: _begun(size, config.width, std=0.0) for field, size in fed.items()})

    def shares(self, field: str, states: torch.Tensor) -> torch.Tensor:
        """(…, values): how likely the next title has each value; rows sum to one."""
        logits: torch.Tensor = self.values[field](states)
        return torch.softmax(logits, dim=-1)

    def fed(self, states: torch.Tensor) -> torch.Tensor:
        """The states with the predicted values in them, where the model is hierarchical."""
        for field, feed in self.feeds.items():
            states = states + feed(self.shares(field, states))
        return states

    def losses(self, seen: Seen, codes: torch.Tensor, tenths: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean loss of each head over p targets, by its name; heads that are not asked anything are left out.

        `codes` (p, columns) are the metadata codes of the targets, `tenths` (p,) the codes of the share that was
        watched of them, 0 where that is not known.
        """
        losses = {
            field: of_values(self.values[field](seen(field)[0]), codes[:, place])
            for field, place in self.places.items()
        }
        known = tenths > 0
        if self.watched is not None and known.any():
            states, titles = seen("watched")
            logits = (self.watched(states) * titles).sum(dim=1)[known]
            through = (tenths[known] > 10 * WATCHED_THROUGH).float()
            losses["watched"] = functional.binary_cross_entropy_with_logits(logits, through)
        return losses


def _begun(inputs: int, outputs: int, std: float = 0.02) -> nn.Linear:
    """A linear map that says little at first, or nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def of_values(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of (p, values) logits with the even mix of the values that each row of `codes` lists."""
    listed = codes > 0
    found = functional.log_softmax(logits, dim=1).gather(1, (codes - 1).clamp(min=0))
    each = (found * listed).sum(dim=1) / listed.sum(dim=1).clamp(min=1)
    return -each.sum() / listed.any(dim=1).sum().clamp(min=1)
