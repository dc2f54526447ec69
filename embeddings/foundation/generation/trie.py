"""Which semantic ids exist, and where they lead: a trie over the digits before the last, whose leaves hold titles.

Nodes of a level are numbered in the order of their ids, so that the children of a node, and the titles of a leaf, are
ranges; a level is then a few flat arrays, whatever the number of codes. A node knows the mean of the titles below it
and how many they are: n · exp(h · mean) is about what a softmax over all titles would give them together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stores.errors import UsageError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """The children of the nodes of one level: those of node p are begins[p] … begins[p + 1] − 1."""

    begins: torch.Tensor
    """(nodes + 1,)"""
    digits: torch.Tensor
    """(children,) the digit that leads to each; ascending among the children of a node."""
    means: torch.Tensor
    """(children, dim) the mean vector of the titles below each."""
    sizes: torch.Tensor
    """(children,) the logarithm of how many these are."""

    @property
    def widest(self) -> int:
        """Children of the node that has most."""
        return int(self.begins.diff().max())

    def children(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(…) nodes to (…, widest) children, and which of these are there; others point at child 0."""
        first, counts = self.begins[nodes], self.begins[nodes + 1] - self.begins[nodes]
        step = torch.arange(self.widest)
        there = step < counts[..., None]
        return torch.where(there, first[..., None] + step, 0), there

    def scores(self, states: torch.Tensor, children: torch.Tensor) -> torch.Tensor:
        """(…, dim) states and (…, widest) children of a node each: what these have together, in logarithms."""
        if len(self.begins) == 2:  # one node: all have the same children
            return states @ self.means.T + self.sizes
        return torch.einsum("...d,...cd->...c", states, self.means[children]) + self.sizes[children]


@dataclass(frozen=True)
class Trie:
    """One level for each digit that means something, and the leaves' titles, whose `digits` are rows of titles."""

    levels: list[Level]
    leaves: Level
    ways: torch.Tensor
    """(levels + 1, titles): the nodes on the way to each title, the root first."""

    @classmethod
    def of(cls, ids: npt.NDArray[np.int32], vectors: npt.NDArray[np.float32]) -> "Trie":
        """The trie of (n, levels + 1) ids of `SemanticIds.assign` of titles with (n, dim) vectors.

        Raises UsageError where there are none.
        """
        if not len(ids):
            raise UsageError("a trie of no ids", expected="semantic ids of at least one title")
        order, titles = np.lexsort(ids.T[::-1]), torch.from_numpy(np.ascontiguousarray(vectors))
        sorted_ids, levels, ways = ids[order], [], np.zeros((ids.shape[1], len(ids)), np.int64)
        for level in range(ids.shape[1] - 1):
            new = np.append(True, np.any(sorted_ids[1:, : level + 1] != sorted_ids[:-1, : level + 1], axis=1))
            ways[level + 1, order] = np.cumsum(new) - 1
            levels.append(_level(ways[level, order[new]], sorted_ids[new, level], titles, ways[level + 1]))
        leaves = _level(ways[-1, order], order, titles, np.argsort(order))
        return cls(levels, leaves, torch.from_numpy(ways))

    @property
    def titles(self) -> int:
        """How many ids there are."""
        return len(self.leaves.digits)


def _level(parents: Ints, digits: npt.NDArray[Any], titles: torch.Tensor, below: Ints) -> Level:
    """A level from the parent of each child, ascending, and the child that each title is `below`."""
    begins, place = np.searchsorted(parents, np.arange(parents[-1] + 2)), torch.from_numpy(below)
    counts = torch.bincount(place, minlength=len(digits))[:, None]
    means = titles.new_zeros(len(digits), titles.shape[1]).index_add_(0, place, titles) / counts
    return Level(torch.from_numpy(begins), torch.from_numpy(digits.astype(np.int64)), means, counts[:, 0].log())
