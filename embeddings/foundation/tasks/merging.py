"""Which moments of a training a task keeps: the weights of several rounds, mixed as held-out questions say.

Beginning with the round that is best for the task, rounds are added to the mean one after the other as long as that
helps (greedy soups, Wortsman et al. 2022). The first "round" is the model before any: a task that has nothing to
learn stays near it, one that learned too much goes part of the way back.
"""

from collections.abc import Callable, Sequence

import torch

Tensors = dict[str, torch.Tensor]


def merged(
    rounds: Sequence[Tensors], losses: Sequence[float], judge: Callable[[Tensors], float]
) -> tuple[Tensors, list[float], float]:
    """The mixed weights, the share of each round in them, and what is lost with them.

    `losses` (rounds,) are those of each round, `judge` says that of other weights. Never worse than the best round.
    """
    order = sorted(range(len(rounds)), key=losses.__getitem__)
    taken, best = [order[0]], losses[order[0]]
    for candidate in order[1:]:
        lost = judge(mean([rounds[at] for at in [*taken, candidate]]))
        if lost < best:
            taken, best = [*taken, candidate], lost
    shares = [(at in taken) / len(taken) for at in range(len(rounds))]
    return mean([rounds[at] for at in taken]), shares, best


def mean(states: Sequence[Tensors]) -> Tensors:
    """The mean of weights of the same names and shapes."""
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
