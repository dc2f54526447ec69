"""What lies before the window, pooled: some learned questions are asked of everything older (Perceiver, 2021).

The answers stand before the first position of the window, where every position sees them; each is a mix of thousands of
events, so a taste of long ago counts. Off by default (`network.latents = 0`): then only the window counts.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.tokens import GAPS, Past, Tokens, gap_codes

Ints = npt.NDArray[np.int64]


def past_of(tokens: Tokens, first: Ints, most: int, random: np.random.Generator | None = None) -> Past:
    """What is older than windows that begin at positions `first`: its `most` newest titles, or so many at random."""
    begin = tokens.starts[np.searchsorted(tokens.starts, first, side="right") - 1]
    count = first - begin
    kept = np.minimum(count, most)
    step = np.arange(max(1, int(kept.max(initial=0))))
    valid = step[None, :] < kept[:, None]
    place = step[None, :] + (count - kept)[:, None]
    if random is not None and (count > most).any():
        # One of each of `most` equal stretches: nothing twice, and the order stays.
        place = ((step[None, :] + random.random(valid.shape)) * (count / np.maximum(kept, 1))[:, None]).astype(np.int64)
    index = np.where(valid, begin[:, None] + place, begin[:, None])
    ages = gap_codes(tokens.times[first][:, None] - tokens.times[index])
    return Past(torch.from_numpy(tokens.titles[index]), torch.from_numpy(ages), torch.from_numpy(valid))


class Latents(nn.Module):
    """Cross-attention of learned questions to the titles of the past and to how long ago they were met."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.questions = nn.Parameter(torch.randn(config.latents, config.width) * 0.02)
        self.nothing = nn.Parameter(torch.zeros(1, 1, config.width))
        self.title = nn.Linear(config.dim, config.width)
        self.ages = nn.Embedding(GAPS, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.query, self.out = nn.Linear(config.width, config.width), nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        nn.init.normal_(self.ages.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, titles: torch.Tensor, past: Past) -> torch.Tensor:
        """(b, m, dim) input vectors of the past's titles to (b, latents, width)."""
        b = len(titles)
        seen = self.norm(self.title(titles) + self.ages(past.ages))
        seen = torch.cat([self.nothing.expand(b, -1, -1), seen], dim=1)
        there = functional.pad(past.valid, (1, 0), value=True)[:, None, None, :]
        asked = self.query(self.norm(self.questions)).expand(b, -1, -1)
        q, k, v = (self._split(x) for x in (asked, *self.key_value(seen).chunk(2, dim=-1)))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=there)
        answers: torch.Tensor = self.questions + self.out(mixed.transpose(1, 2).reshape(b, len(self.questions), -1))
        return answers

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
