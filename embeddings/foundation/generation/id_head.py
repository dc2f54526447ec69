"""How likely each next digit of a title's semantic id is, for a member and the digits before it.

The logit of digit j of level ℓ, which leads to a node of the trie with n titles of mean v below it, is
hₗ · (v + C_ℓⱼ) + log n + b_ℓⱼ, where h₁ is the member's vector and each digit that was taken moves it:
hₗ₊₁ = hₗ + E_ℓ[digit], read through an MLP. C, b, E and the MLP start as nothing, so that before training digits are
about those that a softmax of the tower's scores over all titles asks for. Trained, it is the decoder of TIGER (Rajput
et al. 2023) with the history's state as its memory.

A digit's chance is among those that exist after the same prefix, in training as in the search: after two digits of
three most prefixes have one title left, and over all codes the loss would mostly be that of learning which ids exist.
"""

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.generation.trie import Level, Trie
from embeddings.foundation.semantic_ids import SemanticIds

_HIDDEN = 4


class IdHead(nn.Module):
    """Logits of digits from (…, dim) member vectors that carry the temperature."""

    def __init__(self, ids: SemanticIds) -> None:
        super().__init__()
        levels, codes, dim = ids.codebooks.shape
        self.codes = nn.Parameter(torch.zeros(levels, codes, dim))
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

    def after(self, state: torch.Tensor, digits: torch.Tensor, level: int) -> torch.Tensor:
        """The state once (…) digits of a level are taken."""
        return state + self.taken[level][digits]

    def chances(
        self, level: Level, number: int, states: torch.Tensor, nodes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of (…) nodes and the log-chance of each after its node, (…, widest); −∞ where there is none."""
        children, there = level.children(nodes)
        moved = states + self.downs[number](functional.silu(self.ups[number](self.norms[number](states))))
        learned = (moved @ self.codes[number].T + self.bias[number]).gather(-1, level.digits[children])
        logits = (level.scores(moved, children) + learned).masked_fill(~there, float("-inf"))
        return children, logits.log_softmax(dim=-1)

    def loss(self, members: torch.Tensor, trie: Trie, rows: torch.Tensor) -> torch.Tensor:
        """(n,) −log P of the digits of (n,) rows of the trie's titles, each given those before it."""
        states, lost = members, members.new_zeros(len(members))
        for number, level in enumerate(trie.levels):
            nodes, after = trie.ways[number][rows], trie.ways[number + 1][rows]
            chances = self.chances(level, number, states, nodes)[1]
            lost = lost - chances.gather(1, (after - level.begins[nodes])[:, None])[:, 0]
            states = self.after(states, level.digits[after], number)
        return lost
