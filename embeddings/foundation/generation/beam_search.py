"""The likeliest titles of each member by constrained beam search over semantic ids.

A step keeps the `beam` best prefixes among those that exist. A digit's chance is renormalised over the children that a
prefix has, and titles that share all digits are told apart by the tower's scores, so that the chances of all titles add
up to one; with a beam as wide as the catalogue the search is exact.
"""

from dataclasses import dataclass

import torch

from embeddings.foundation.generation.id_head import IdHead
from embeddings.foundation.generation.trie import Level, Trie

_NEVER = float("-inf")


@dataclass(frozen=True)
class Beams:
    """Per member the best prefixes so far, (b, w): node of the trie, log-chance, and (b, w, dim) what is known."""

    nodes: torch.Tensor
    scores: torch.Tensor
    states: torch.Tensor

    @classmethod
    def of(cls, members: torch.Tensor) -> "Beams":
        """The empty prefix of each of (b, dim) members."""
        nodes = torch.zeros(len(members), 1, dtype=torch.long)
        return cls(nodes, members.new_zeros(len(members), 1), members[:, None])


@torch.no_grad()
def search(
    head: IdHead, trie: Trie, members: torch.Tensor, titles: torch.Tensor, count: int, beam: int, met: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` likeliest titles of each member and their log-chances, (b, count) each, best first.

    `members` (b, dim) carry the temperature, `titles` (m, dim) are unit vectors in the order of the trie's titles,
    `met` (b, m) are left out. Where the kept prefixes lead to fewer titles, −1 with −∞.
    """
    beams = Beams.of(members)
    for number, level in enumerate(trie.levels):
        beams = _grown(head, level, number, beams, beam)
    rows, there = trie.leaves.children(beams.nodes)
    found = trie.leaves.digits[rows]
    scores = torch.einsum("bd,bwcd->bwc", members, titles[found]).masked_fill(~there, _NEVER)
    scores = beams.scores[..., None] + scores.log_softmax(dim=-1)
    members_of = torch.arange(len(members))[:, None, None]
    flat = scores.masked_fill(~there | met[members_of, found], _NEVER).flatten(1)
    best, places = flat.topk(min(count, flat.shape[1]), dim=1)
    chosen = torch.where(best > _NEVER, found.flatten(1).gather(1, places), -1)
    short = (0, count - chosen.shape[1])
    return torch.nn.functional.pad(chosen, short, value=-1), torch.nn.functional.pad(best, short, value=_NEVER)


def _grown(head: IdHead, level: Level, number: int, beams: Beams, beam: int) -> Beams:
    """The best prefixes that are one digit longer."""
    children, chances = head.chances(level, number, beams.states, beams.nodes)
    scores = (beams.scores[..., None] + chances).flatten(1)
    best, places = scores.topk(min(beam, scores.shape[1]), dim=1)
    before, nodes = places.div(children.shape[2], rounding_mode="floor"), children.flatten(1).gather(1, places)
    states = beams.states.gather(1, before[..., None].expand(-1, -1, beams.states.shape[2]))
    return Beams(nodes, best, head.after(states, level.digits[nodes], number))
