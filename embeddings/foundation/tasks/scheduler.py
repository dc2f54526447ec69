"""Whose turn it is: tasks that still gain get more of the steps, those that have converged fewer.

After each round the loss of every task is measured on held-out questions. What a task gained in the last round, as a
share of what it lost before any, says how far from convergence it is; turns are dealt in proportion, above a least
share (the step-wise convergence-oriented sample scheduler of RecFound, arXiv 2506.11999). A share of what the task has
gained so far would be luck where that is next to nothing.
"""

import numpy as np
import numpy.typing as npt

from embeddings.foundation.tasks.config import TasksConfig

Shares = npt.NDArray[np.float64]


class Scheduler:
    """The losses so far, and the shares of the tasks in the next round."""

    def __init__(self, config: TasksConfig, tasks: int) -> None:
        self.config, self.tasks = config, tasks
        self.losses: list[list[float]] = []
        self.dealt: list[list[float]] = []

    def note(self, losses: list[float]) -> None:
        """The loss of each task before a round; after the last one too where rounds are merged."""
        self.losses.append(losses)

    def turns(self, count: int) -> npt.NDArray[np.int64]:
        """(count,) tasks, ascending: so many turns each as its share of them says, to the nearest whole."""
        ends = np.rint(np.cumsum(self.shares()) * count).astype(np.int64)
        return np.repeat(np.arange(self.tasks), np.diff(ends, prepend=0))

    def shares(self) -> Shares:
        """(tasks,) shares of the steps of the next round; they are kept in `dealt`."""
        rounds = len(self.losses) - 1
        shares = np.full(self.tasks, 1 / self.tasks)
        if self.config.scheduled and rounds >= max(1, self.config.warm_rounds):
            least = self.config.least_share
            shares = least * shares + (1 - least) * self._progress()
        self.dealt.append(shares.tolist())
        return shares

    def _progress(self) -> Shares:
        """What each task gained in the last round, relative to its first loss, as shares of one."""
        first, before, now = (np.array(self.losses[at]) for at in (0, -2, -1))
        progress = np.maximum(before - now, 0) / np.maximum(first, 1e-9)
        total = progress.sum()
        return progress / total if total > 0 else np.full(self.tasks, 1 / self.tasks)
