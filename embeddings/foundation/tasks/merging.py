"""Which moments of a training are kept: the weights of several rounds, mixed as held-out questions say.

Each task has its best round. Beginning with the round that is best for all together, rounds are added to the mean one
after the other as long as that helps (greedy soups, Wortsman et al. 2022).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]
Judge = Callable[[Tensors], Sequence[float]]
"""The loss of each task with some weights."""


def merged(rounds: Sequence[Tensors], losses: Sequence[Sequence[float]], judge: Judge) -> tuple[Tensors, list[float]]:
    """The mixed weights and the share of each round in them; `losses` are those of each round, (rounds, tasks).

    Never worse on the questions than the best single round, by the mean of the logarithms of the losses.
    """
    costs = [_cost(each) for each in losses]
    order = sorted(range(len(rounds)), key=costs.__getitem__)
    taken, best = [order[0]], costs[order[0]]
    for candidate in order[1:]:
        cost = _cost(judge(mean([rounds[at] for at in [*taken, candidate]])))
        if cost < best:
            taken, best = [*taken, candidate], cost
    shares = [(at in taken) / len(taken) for at in range(len(rounds))]
    return mean([rounds[at] for at in taken]), shares


def mean(states: Sequence[Tensors]) -> Tensors:
    """The mean of weights of the same names and shapes."""
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}


def _cost(losses: Sequence[float]) -> float:
    """What is lost over all tasks, whatever the scale of each."""
    return float(np.log(np.maximum(losses, 1e-9)).mean())
