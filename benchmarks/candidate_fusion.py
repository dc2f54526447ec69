"""Candidates of two sources as one list: each title's chance is a mixture of what both say of it."""

import torch

Candidates = tuple[torch.Tensor, torch.Tensor]
"""Rows of titles and the logarithms of their chances, (b, n) each; row -1 where there is none."""


def of_scores(scores: torch.Tensor, count: int) -> Candidates:
    """The likeliest titles, int64 rows and float32 log-chances (b, count), by (b, m) scores in natural logarithms.

    −∞ is what is left out; the chances of a row add up to one.
    """
    chances = scores.log_softmax(dim=1)
    chances = chances.masked_fill(chances.isnan(), float("-inf"))  # rows in which everything is left out
    chances, rows = chances.topk(min(count, scores.shape[1]), dim=1)
    return rows.masked_fill(chances == float("-inf"), -1), chances


def fuse(one: Candidates, other: Candidates, count: int, share: float = 0.5) -> Candidates:
    """The `count` likeliest titles of a mixture in which `other` has a share; best first.

    A title that a source does not list has no chance there, so that one on which both agree comes before what only one
    of them thinks likely. With lists much longer than `count` that is the mixture of the two over all titles.
    """
    rows = torch.cat([one[0], other[0]], dim=1)
    weights = torch.tensor([1 - share, share]).log()
    chances = torch.cat([part[1] + weight for part, weight in zip((one, other), weights, strict=True)], dim=1)
    order = rows.argsort(dim=1, stable=True)
    rows, chances = rows.gather(1, order), chances.gather(1, order)
    # A title is at most twice there: the first takes the chance of the second, which is none then.
    again = torch.cat([torch.zeros_like(rows[:, :1], dtype=torch.bool), rows[:, 1:] == rows[:, :-1]], dim=1)
    both = chances[:, :-1].logaddexp(chances[:, 1:].masked_fill(~again[:, 1:], float("-inf")))
    chances = torch.cat([both, chances[:, -1:]], dim=1).masked_fill(again | (rows < 0), float("-inf"))
    best, places = chances.topk(min(count, chances.shape[1]), dim=1)
    return rows.gather(1, places).masked_fill(best == float("-inf"), -1), best
