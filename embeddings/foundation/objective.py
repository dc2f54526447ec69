"""The training loss: softmax over all titles, or over sampled ones with the correction that keeps its gradient.

`cross_entropy([s_p, s_n − log(k·Q′(n))])` with `Q′(n) = Q(n) / (1 − Q(p))`: the correction is on the
negatives only, whose distribution excludes the positive ("Correcting the LogQ Correction", RecSys 2025).
The positive is always there, so its own score needs none; correcting it too biases the gradient.
"""

import math

import torch
from torch.nn import functional


def full_softmax(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(p, titles) scores and (p,) target columns to (p,) losses."""
    return functional.cross_entropy(scores, targets, reduction="none")


def sampled_softmax(
    positive: torch.Tensor,
    negative: torch.Tensor,
    same: torch.Tensor,
    log_q: torch.Tensor,
    log_q_positive: torch.Tensor,
) -> torch.Tensor:
    """Losses (p,) over the target and k titles drawn with replacement from Q, shared by all positions.

    `positive` (p,) and `negative` (p, k) are scores; `same` (p, k) marks draws that are the target:
    they are left out. `log_q` (k,) and `log_q_positive` (p,) are logarithms of Q.
    """
    drawn = (same.shape[1] - same.sum(dim=1, keepdim=True)).clamp(min=1)
    log_expected = torch.log(drawn) + log_q[None, :] - torch.log1p(-torch.exp(log_q_positive))[:, None]
    corrected = (negative - log_expected).masked_fill(same, float("-inf"))
    return torch.logaddexp(positive, torch.logsumexp(corrected, dim=1)) - positive


def sampled_uniform(positive: torch.Tensor, negative: torch.Tensor, same: torch.Tensor, titles: int) -> torch.Tensor:
    """`sampled_softmax` with Q uniform over `titles` ≥ 2 titles: every correction is one number."""
    drawn = (same.shape[1] - same.sum(dim=1)).clamp(min=1)
    corrected = negative.masked_fill(same, float("-inf"))
    others = torch.logsumexp(corrected, dim=1) - torch.log(drawn) + math.log(titles - 1)
    return torch.logaddexp(positive, others) - positive
