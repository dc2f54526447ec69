"""The network over positions: causal transformer and HSTU blocks, time bias, id dropout, bfloat16 products."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.sequences import NUM_GAP_CODES


def has_fast_bf16() -> bool:
    """Whether this one has instructions for it; without them it is slower, not faster."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


MATMUL_DTYPE = torch.bfloat16 if has_fast_bf16() else torch.float32
"""Of the products of a training and what comes out of each; what they are added to, norms and weights are float32."""


_DROPOUT_LEVELS = 256


def byte_dropout(x: torch.Tensor, share: float, training: bool) -> torch.Tensor:
    """`x` with a `share` (rounded to 1/256) of its entries zero and the rest scaled up, in training only.

    The bytes are those of 64-bit draws of torch's own generator, so a seed decides them.
    """
    cut = round(share * _DROPOUT_LEVELS)
    if not training or not cut:
        return x
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(
        torch.iinfo(torch.int64).min, None
    )
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= cut
    return x * kept.to(x.dtype).mul_(_DROPOUT_LEVELS / (_DROPOUT_LEVELS - cut))


_MASKED_BIAS = -1e4
"""A score whose SiLU is exactly zero, and so is its gradient; that of minus infinity would be no number."""


class HSTUBlock(nn.Module):
    """Attention and feed-forward in one: what is mixed is multiplied by a gate, then projected."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.num_heads, config.dropout
        self.norm, self.norm_mixed = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.uvqk = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(config.width, config.width)

    @property
    def branches(self) -> tuple[nn.Linear, ...]:
        """The maps that add to the residual stream."""
        return (self.down,)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memory: "KVCacheFn | None" = None) -> torch.Tensor:
        """(b, l, width) to the same; `bias` is (b, heads, l, keys) with −inf where a key is later, None for causal."""
        b, length, width = x.shape
        u, v, q, k = functional.silu(self.uvqk(self.norm(x))).view(b, length, 4, self.heads, -1).permute(2, 0, 3, 1, 4)
        if memory is not None:
            k, v = memory(k, v)
        if bias is None:
            bias = x.new_full((length, length), _MASKED_BIAS).triu_(1)
        mixed = functional.silu(q @ k.transpose(2, 3) + bias.clamp(min=_MASKED_BIAS)) @ v
        mixed, u = (part.transpose(1, 2).reshape(b, length, width) for part in (mixed, u))
        added: torch.Tensor = self.down(byte_dropout(self.norm_mixed(mixed) * u, self.dropout, self.training))
        return x + added


KVCacheFn = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Of the keys and values of new positions: those of the positions before and of these (`decoding`)."""


class Attention(nn.Module):
    """Causal multi-head attention with an additive bias per head."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.num_heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memory: KVCacheFn | None = None) -> torch.Tensor:
        """(b, l, width) to the same; `bias` is (b, heads, l, keys) with −inf where a key is later, None for causal."""
        b, length, width = x.shape
        q, k, v = self.qkv(x).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if memory is not None:
            k, v = memory(k, v)
        mixed = _softmax_attention(q, k, v, bias).transpose(1, 2).reshape(b, length, width)
        return byte_dropout(self.out(mixed), self.dropout, self.training)


def _softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Softmax attention, all (b, heads, positions, width / heads).

    Plain products where there is a bias: the fused kernels know no gradient of one, and what torch does instead
    looks twice for rows that see nothing, of which there are none here.
    """
    if bias is None:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    biases = bias.expand(*q.shape[:2], -1, -1).flatten(0, 1)
    keys = k.flatten(0, 1).transpose(1, 2)
    scores = torch.baddbmm(biases, q.flatten(0, 1), keys, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, dim=-1), v.flatten(0, 1)).view(q.shape)


class SwiGLU(nn.Module):
    """W₃(SiLU(W₁x) ⊙ W₂x), Shazeer 2020; the hidden width is 8/3 of the width."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        hidden = -(-config.width * 8 // 3 // 8) * 8
        self.dropout = config.dropout
        self.up = nn.Linear(config.width, 2 * hidden)
        self.down = nn.Linear(hidden, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, width) to the same."""
        gate, value = self.up(x).chunk(2, dim=-1)
        return byte_dropout(self.down(functional.silu(gate) * value), self.dropout, self.training)


class TransformerBlock(nn.Module):
    """x += σ(W₁x) ⊙ MHA(LN x); x += σ(W₂x) ⊙ SwiGLU(LN x)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention, self.feed = Attention(config), SwiGLU(config)
        self.gate_attention = nn.Linear(config.width, config.width)
        self.gate_feed = nn.Linear(config.width, config.width)

    @property
    def branches(self) -> tuple[nn.Linear, ...]:
        """The maps that add to the residual stream."""
        return self.attention.out, self.feed.down

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, memory: KVCacheFn | None = None) -> torch.Tensor:
        """(b, l, width) to the same."""
        x = x + torch.sigmoid(self.gate_attention(x)) * self.attention(self.norm_attention(x), bias, memory)
        gated: torch.Tensor = torch.sigmoid(self.gate_feed(x)) * self.feed(self.norm_feed(x))
        return x + gated


_BLOCK_TYPES: dict[str, type[TransformerBlock | HSTUBlock]] = {"transformer": TransformerBlock, "hstu": HSTUBlock}
_EXPONENT_OF_HALF = 126


class _BiasLookup(torch.autograd.Function):
    """table[:, buckets], with counting as the backward pass: many times faster than that of an embedding."""

    @staticmethod
    def forward(ctx: FunctionCtx, table: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
        """(heads, n) and (b, l, l) to (b, heads, l, l)."""
        ctx.save_for_backward(buckets)
        ctx.columns = table.shape[1]  # type: ignore[attr-defined]
        flat = buckets.flatten(1)
        return torch.stack([row[flat] for row in table], dim=1).view(len(buckets), len(table), *buckets.shape[1:])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Per head the sum of the gradients of each bucket."""
        (buckets,) = ctx.saved_tensors
        flat = buckets.flatten()
        sums = [torch.bincount(flat, gradient[:, h].flatten(), ctx.columns) for h in range(gradient.shape[1])]
        return torch.stack(sums).to(gradient.dtype), None


def _later(length: int, device: torch.device) -> torch.Tensor:
    """(l, l) bool: whether the key, a column, comes after the query, a row."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class TimeBias(nn.Module):
    """A learned bias per head and log₂ bucket of the time from the key's event to the query's."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(NUM_GAP_CODES, heads))

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        """(b, l) seconds to (b, heads, l, l), −inf where the key comes after the query."""
        return self.between(times, times, _later(times.shape[1], times.device))

    def between(self, queries: torch.Tensor, keys: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """(b, q) and (b, k) seconds to (b, heads, q, k), −inf where `later`, which broadcasts to (b, q, k)."""
        spans = (queries[:, :, None] - keys[:, None, :]).clamp_(min=0).float().add_(1.0)
        # The exponent of a float is the floor of its log₂: a shift instead of 400,000 logarithms a step.
        buckets = (spans.view(torch.int32) >> 23).sub_(_EXPONENT_OF_HALF).clamp_(max=NUM_GAP_CODES - 1)
        never = self.table.new_full((self.table.shape[1], 1), float("-inf"))
        table = torch.cat([self.table.T, never], dim=1)
        bias: torch.Tensor = _BiasLookup.apply(table, buckets.masked_fill_(later, NUM_GAP_CODES))  # type: ignore[no-untyped-call]
        return bias


class Transformer(nn.Module):
    """Blocks over embedded positions, then a projection to unit member vectors."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        blocks = [_BLOCK_TYPES[config.block_type](config) for _ in range(config.num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.time = TimeBias(config.num_heads) if config.time_bias else None
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, config.dim)
        # Near the identity at the start: a member is then its last title.
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        for block in blocks:
            for branch in block.branches:
                nn.init.normal_(branch.weight, std=0.02)
                nn.init.zeros_(branch.bias)

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """(b, l, width) and (b, l) seconds to the last states, (b, l, width).

        In training the products are bfloat16 where that is faster; what the blocks add up stays float32.
        """
        bias = self.time(times) if self.time is not None else None
        short = self.training and MATMUL_DTYPE is torch.bfloat16
        with torch.autocast(x.device.type, MATMUL_DTYPE) if short else nullcontext():
            for block in self.blocks:
                x = block(x, bias)
        return x

    def vectors(self, states: torch.Tensor) -> torch.Tensor:
        """(…, width) to unit vectors (…, dim)."""
        return self.projected(self.norm(states))

    def projected(self, normed: torch.Tensor) -> torch.Tensor:
        """(…, width) normed states to unit vectors (…, dim)."""
        return functional.normalize(self.project(normed), dim=-1)
