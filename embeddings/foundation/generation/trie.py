"""Which semantic ids exist: a trie over the digits before the last, whose leaves hold titles.

Nodes of a level are numbered in the order of their ids, so that the children of a node, and the titles of a leaf, are
ranges; a level is then two flat arrays, whatever the number of codes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from stores.errors import UsageError


@dataclass(frozen=True)
class Level:
    """The children of the nodes of one level: those of node p are begins[p] … begins[p + 1] − 1."""

    begins: torch.Tensor
    """(nodes + 1,)"""
    digits: torch.Tensor
    """(children,) the digit that leads to each; ascending among the children of a node."""

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


@dataclass(frozen=True)
class Trie:
    """One level for each digit that means something, and the leaves' titles, whose `digits` are rows of titles."""

    levels: list[Level]
    leaves: Level
    ways: torch.Tensor
    """(levels + 1, titles): the nodes on the way to each title, the root first."""

    @classmethod
    def of(cls, ids: npt.NDArray[np.int32]) -> "Trie":
        """The trie of (n, levels + 1) ids of `SemanticIds.assign`. Raises UsageError where there are none."""
        if not len(ids):
            raise UsageError("a trie of no ids", expected="semantic ids of at least one title")
        order = np.lexsort(ids.T[::-1])
        sorted_ids, levels, parents = ids[order], [], np.zeros(len(ids), np.int64)
        ways = np.zeros((ids.shape[1], len(ids)), np.int64)
        for level in range(ids.shape[1] - 1):
            new = np.append(True, np.any(sorted_ids[1:, : level + 1] != sorted_ids[:-1, : level + 1], axis=1))
            nodes = np.cumsum(new) - 1
            levels.append(_level(parents[new], sorted_ids[new, level]))
            parents = ways[level + 1, order] = nodes
        return cls(levels, _level(parents, order), torch.from_numpy(ways))

    @property
    def titles(self) -> int:
        """How many ids there are."""
        return len(self.leaves.digits)


def _level(parents: npt.NDArray[np.int64], digits: npt.NDArray[np.int64]) -> Level:
    """A level from the parent of each child, ascending."""
    begins = np.searchsorted(parents, np.arange(parents[-1] + 2))
    return Level(torch.from_numpy(begins), torch.from_numpy(digits.astype(np.int64)))
