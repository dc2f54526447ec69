"""The training loss: softmax over all titles, or over drawn ones with the weight that keeps its gradient.

`log(e^{s_p} + n/k · Σ e^{s_j}) − s_p`, the sum over those of k distinct titles drawn from n that are not the
positive. Each other title is drawn with chance k/n, so n/k times the sum is, in expectation, that over all
of them (Horvitz and Thompson 1952). The positive is always there, so its own score needs no such
weight; giving it one biases the gradient ("Correcting the LogQ Correction", RecSys 2025). With k = n it is the full
softmax.
"""

from typing import Any

import torch
from torch.autograd.function import FunctionCtx

_CELLS = 1 << 18
"""Scores held at once: they stay in the cache of a processor, which is most of the speed."""


class _SharedSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over blocks of positions: the (p, k) scores are never there as a whole."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        members: torch.Tensor,
        titles: torch.Tensor,
        positive: torch.Tensor,
        left_out: torch.Tensor,
        weights: torch.Tensor,
        each: float,
    ) -> torch.Tensor:
        """The sum of the weighted losses."""
        to_members, to_positive = torch.empty_like(members), torch.empty_like(positive)
        to_titles, total = torch.zeros_like(titles), positive.new_zeros(())
        rows = max(16, _CELLS // len(titles))
        for begin in range(0, len(members), rows):
            part = slice(begin, begin + rows)
            scores, own, weight = members[part] @ titles.T, positive[part], weights[part]
            scores[:, -1] = float("-inf")
            scores.scatter_(1, left_out[part], float("-inf"))
            top = torch.maximum(scores.amax(dim=1), own)
            others, share = scores.sub_(top[:, None]).exp_(), torch.exp(own - top)
            mass = each * others.sum(dim=1) + share
            total += (weight * (torch.log(mass) + top - own)).sum()
            others.mul_((weight * each / mass)[:, None])
            to_members[part] = others @ titles
            to_titles.addmm_(others.T, members[part])
            to_positive[part] = weight * (share / mass - 1)
        ctx.save_for_backward(to_members, to_titles, to_positive)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """What was found on the way forward, times the gradient of the sum."""
        return (*(gradient * found for found in ctx.saved_tensors), None, None, None)


def shared_softmax(
    members: torch.Tensor,
    titles: torch.Tensor,
    positive: torch.Tensor,
    left_out: torch.Tensor,
    weights: torch.Tensor,
    each: float,
) -> torch.Tensor:
    """The sum over p positions of weight times loss; k drawn titles are shared by all positions.

    Scores are inner products of `members` (p, d), the temperature in them, and `titles` (k, d); `positive` (p,) are
    the scores of the targets. `left_out` (p, h) are the columns of the drawn titles that a position must not
    be set against, its own target above all; k stands for none. Every drawn title counts `each` = n/k times.
    """
    none = titles.new_zeros(1, titles.shape[1])
    result: torch.Tensor = _SharedSoftmax.apply(  # type: ignore[no-untyped-call]
        members, torch.cat([titles, none]), positive, left_out, weights, each
    )
    return result
