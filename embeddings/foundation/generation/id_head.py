"""How likely each next digit of a title's semantic id is, for a member and the digits before it.

The logit of code j of level ℓ is hₗ · C_ℓⱼ + b_ℓⱼ, where h₁ is the member's vector and each digit that was taken moves
it: hₗ₊₁ = hₗ + E_ℓ[digit] + MLP. The C start as the codebooks, the rest as nothing, so that before training the digits
are those that the tower's own scores ask for: a title is about the sum of its codes' vectors, a score about the sum of
the products. Trained, it is the decoder of TIGER (Rajput et al. 2023) with the history's state as its memory.
"""

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.semantic_ids import SemanticIds

_HIDDEN = 4


class IdHead(nn.Module):
    """Logits of digits from (…, dim) member vectors that carry the temperature."""

    def __init__(self, ids: SemanticIds) -> None:
        super().__init__()
        levels, codes, dim = ids.codebooks.shape
        self.codes = nn.Parameter(ids.codebooks.clone())
        self.bias = nn.Parameter(torch.zeros(levels, codes))
        self.taken = nn.Parameter(torch.zeros(levels, codes, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(levels))
        self.ups = nn.ModuleList(nn.Linear(dim, _HIDDEN * dim) for _ in range(levels))
        self.downs = nn.ModuleList(nn.Linear(_HIDDEN * dim, dim) for _ in range(levels))
        for weight in self.downs.parameters():
            nn.init.zeros_(weight)

    @property
    def levels(self) -> int:
        """Digits that are predicted."""
        return len(self.codes)

    def logits(self, state: torch.Tensor, level: int) -> torch.Tensor:
        """(…, dim) states to (…, codes)."""
        moved = self.downs[level](functional.silu(self.ups[level](self.norms[level](state))))
        found: torch.Tensor = (state + moved) @ self.codes[level].T + self.bias[level]
        return found

    def after(self, state: torch.Tensor, digits: torch.Tensor, level: int) -> torch.Tensor:
        """The state once (…) digits of a level are taken."""
        return state + self.taken[level][digits]

    def loss(self, members: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
        """(n,) −log P of (n, levels) digits, each given those before it, over all codes of its level."""
        state, lost = members, members.new_zeros(len(members))
        for level in range(self.levels):
            here = digits[:, level]
            lost = lost + functional.cross_entropy(self.logits(state, level), here, reduction="none")
            state = self.after(state, here, level)
        return lost
