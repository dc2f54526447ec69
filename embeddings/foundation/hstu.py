"""HSTU blocks, the other kind of block: attention without softmax, gated by the position itself.

U, V, Q, K = SiLU(W₁ LN x); A = SiLU(QKᵀ + bias), nothing where a key is later; x += W₂(LN(AV) ⊙ U). From Zhai et al.,
"Actions Speak Louder than Words", ICML 2024, equations 1 to 3, with two changes: A is not divided by the length, which
the norm would undo, and the bias is the time bias of this network, places being in the embedding. A block
has a third of the weights of a gated one.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.dropout import dropped

if TYPE_CHECKING:
    from embeddings.foundation.network import Memory

_NEVER = -1e4
"""A score whose SiLU is exactly zero, and so is its gradient; that of minus infinity would be no number."""


class HSTUBlock(nn.Module):
    """Attention and feed-forward in one: what is mixed is multiplied by a gate, then projected."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.norm, self.norm_mixed = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.uvqk = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(config.width, config.width)

    @property
    def branches(self) -> tuple[nn.Linear, ...]:
        """The maps that add to the residual stream."""
        return (self.down,)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memory: "Memory | None" = None) -> torch.Tensor:
        """(b, l, width) to the same; `bias` is (b, heads, l, keys) with −inf where a key is later, None for causal."""
        b, length, width = x.shape
        u, v, q, k = functional.silu(self.uvqk(self.norm(x))).view(b, length, 4, self.heads, -1).permute(2, 0, 3, 1, 4)
        if memory is not None:
            k, v = memory(k, v)
        if bias is None:
            bias = x.new_full((length, length), _NEVER).triu_(1)
        mixed = functional.silu(q @ k.transpose(2, 3) + bias.clamp(min=_NEVER)) @ v
        mixed, u = (part.transpose(1, 2).reshape(b, length, width) for part in (mixed, u))
        added: torch.Tensor = self.down(dropped(self.norm_mixed(mixed) * u, self.dropout, self.training))
        return x + added
