"""The training loss: softmax over all titles, or over drawn ones with the weight that keeps its gradient.

`log(e^{s_p} + n/k · Σ e^{s_j}) − s_p`, the sum over those of k distinct titles drawn from n that are not the
positive. Each other title is drawn with chance k/n, so n/k times the sum is, in expectation, that over all
of them (Horvitz and Thompson 1952). The positive is always there, so its own score needs no such
weight; giving it one biases the gradient ("Correcting the LogQ Correction", RecSys 2025). With k = n it is the full
softmax.

Nested: the leading entries of a vector can be asked alone too. Their products are part of those of the whole, and both
gradients go back in one product, so that asking twice costs two exponentials, not two losses. Where the processor
multiplies bfloat16 faster, all products are such: vectors, scores and probabilities then have eight bits, what is added
up over blocks has more.
"""

import math
from typing import Any

import torch
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from embeddings.foundation.network import MATMUL_DTYPE

_CELLS_PER_BLOCK = 1 << 20
"""Scores held at once: few enough to stay in a cache, which is most of the speed, and enough for several threads."""
_ROWS_PER_BLOCK = 256
"""Titles are filled up to multiples of it: below float32 a product is compiled for each number of them."""


class _SampledSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over blocks of positions: the (p, k) scores are never there as a whole.

    Scores are in bits, as powers of two are found several times as fast as those of e.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        members: torch.Tensor,
        titles: torch.Tensor,
        positive: torch.Tensor,
        left_out: torch.Tensor,
        weights: torch.Tensor,
        each: float,
        there: int,
    ) -> torch.Tensor:
        """The sum of the weighted losses; titles from `there` on are none."""
        ours, theirs = (_prefix_slices(vectors, positive.shape[1]) for vectors in (members, titles))
        in_bits = [(piece / math.log(2)).T.contiguous().to(MATMUL_DTYPE) for piece in theirs]
        short_ours, short_theirs = ([piece.to(MATMUL_DTYPE) for piece in pieces] for pieces in (ours, theirs))
        to_ours, to_theirs = [torch.empty_like(x) for x in ours], [torch.zeros_like(x) for x in theirs]
        own, to_positive, total = positive / math.log(2), torch.empty_like(positive), positive.new_zeros(())
        scores = members.new_empty(len(ours), max(16, _CELLS_PER_BLOCK // len(titles)), len(titles))
        for part in (slice(at, at + scores.shape[1]) for at in range(0, len(members), scores.shape[1])):
            block = scores[:, : len(own[part])]
            _prefix_scores(block, [piece[part] for piece in short_ours], in_bits, there)
            for i in reversed(range(len(ours))):
                lost, to_positive[part, i] = _block_loss(block[i], own[part, i], left_out[part], weights[part], each)
                total += lost
                if i + 1 < len(ours):
                    block[i] += block[i + 1]
                shares = block[i].to(MATMUL_DTYPE)
                to_ours[i][part] = shares @ short_theirs[i]
                to_theirs[i] += shares.T @ short_ours[i][part]
        ctx.save_for_backward(torch.cat(to_ours, dim=1), torch.cat(to_theirs, dim=1), to_positive)
        return total * math.log(2)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """What was found on the way forward, times the gradient of the sum."""
        return (*(gradient * found for found in ctx.saved_tensors), None, None, None, None)


def _prefix_slices(vectors: torch.Tensor, asked: int) -> list[torch.Tensor]:
    """The columns that each asked prefix has and the one before it does not: the whole, or two halves."""
    half = vectors.shape[1] // asked
    return [piece.contiguous() for piece in vectors.tensor_split([half] * (asked > 1), dim=1)]


def _prefix_scores(scores: torch.Tensor, ours: list[torch.Tensor], theirs: list[torch.Tensor], there: int) -> None:
    """Fill (asked, rows, k) with the products of each prefix: those of the one before it and of its own piece."""
    scores[0] = ours[0] @ theirs[0]
    for i in range(1, len(ours)):
        torch.add(scores[i - 1], ours[i] @ theirs[i], out=scores[i])
    scores[:, :, there:] = float("-inf")


def _block_loss(
    scores: torch.Tensor, own: torch.Tensor, left_out: torch.Tensor, weights: torch.Tensor, each: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the losses of a block in bits, and the gradient of `own`; `scores` become their gradient."""
    scores.scatter_(1, left_out, float("-inf"))
    top = torch.maximum(scores.amax(dim=1), own)
    scores.sub_(top[:, None]).exp2_()
    share = torch.exp2(own - top)
    mass = each * scores.sum(dim=1) + share
    scores.mul_((weights * each / mass)[:, None])
    return (weights * (torch.log2(mass) + top - own)).sum(), weights * (share / mass - 1)


def sampled_softmax_loss(
    members: torch.Tensor,
    titles: torch.Tensor,
    positive: torch.Tensor,
    left_out: torch.Tensor,
    weights: torch.Tensor,
    each: float,
) -> torch.Tensor:
    """The sum over p positions of weight times loss; k drawn titles are shared by all positions.

    Scores are inner products of `members` (p, d), the temperature in them, and `titles` (k, d). `positive` are
    the scores of the targets: (p, 1) of whole vectors, or (p, 2) of their first halves and of the whole, whose two
    losses are added. `left_out` (p, h) are the columns of the drawn titles that a position must not be set against, its
    own target above all; k stands for none. Every drawn title counts `each` = n/k times.
    """
    filled = functional.pad(titles, (0, 0, 0, 1 + (-1 - len(titles)) % _ROWS_PER_BLOCK))
    result: torch.Tensor = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        members, filled, positive, left_out, weights, each, len(titles)
    )
    return result
