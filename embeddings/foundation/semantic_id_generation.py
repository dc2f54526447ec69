"""Generate titles by their semantic ids: a trie of the ids, a head for each digit, constrained beam search.

Nodes of a level are numbered in the order of their ids, so that the children of a node, and the titles of a leaf, are
ranges; a level is then a few flat arrays, whatever the number of codes. A node knows the mean of the titles below it
and how many they are: n · exp(h · mean) is about what a softmax over all titles would give them together.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encode import member_vectors, title_vectors
from embeddings.foundation.finiteness import find_weights_fault
from embeddings.foundation.generate import GeneratedSessions, next_titles, seen_titles
from embeddings.foundation.semantic_ids import Ids, SemanticIds
from embeddings.foundation.sequences import TokenSequences
from stores import schema
from stores.errors import CorruptError, EncoderError, NotFoundError, UsageError
from stores.files.filesystem import Storage, sha256
from stores.files.parquet import parquet_bytes, table_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrieLevel:
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
    def max_children(self) -> int:
        """Children of the node that has most."""
        return int(self.begins.diff().max())

    def children(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(…) nodes to (…, widest) children, and which of these are there; others point at child 0."""
        first, counts = self.begins[nodes], self.begins[nodes + 1] - self.begins[nodes]
        step = torch.arange(self.max_children)
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

    levels: list[TrieLevel]
    leaves: TrieLevel
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
            levels.append(_build_level(ways[level, order[new]], sorted_ids[new, level], titles, ways[level + 1]))
        leaves = _build_level(ways[-1, order], order, titles, np.argsort(order))
        return cls(levels, leaves, torch.from_numpy(ways))

    @property
    def titles(self) -> int:
        """How many ids there are."""
        return len(self.leaves.digits)


def _build_level(parents: Ints, digits: npt.NDArray[Any], titles: torch.Tensor, below: Ints) -> TrieLevel:
    """A level from the parent of each child, ascending, and the child that each title is `below`."""
    begins, place = np.searchsorted(parents, np.arange(parents[-1] + 2)), torch.from_numpy(below)
    counts = torch.bincount(place, minlength=len(digits))[:, None]
    means = titles.new_zeros(len(digits), titles.shape[1]).index_add_(0, place, titles) / counts
    return TrieLevel(torch.from_numpy(begins), torch.from_numpy(digits.astype(np.int64)), means, counts[:, 0].log())


_HIDDEN_FACTOR = 4


class IdHead(nn.Module):
    """Logits of digits from (…, dim) member vectors that carry the temperature."""

    def __init__(self, ids: SemanticIds) -> None:
        super().__init__()
        levels, codes, dim = ids.codebooks.shape
        self.codes = nn.Parameter(torch.zeros(levels, codes, dim))
        self.bias = nn.Parameter(torch.zeros(levels, codes))
        self.taken = nn.Parameter(torch.zeros(levels, codes, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(levels))
        self.ups = nn.ModuleList(nn.Linear(dim, _HIDDEN_FACTOR * dim) for _ in range(levels))
        self.downs = nn.ModuleList(nn.Linear(_HIDDEN_FACTOR * dim, dim) for _ in range(levels))
        for weight in self.downs.parameters():
            nn.init.zeros_(weight)

    @property
    def levels(self) -> int:
        """Digits that are predicted."""
        return len(self.codes)

    def advance(self, state: torch.Tensor, digits: torch.Tensor, level: int) -> torch.Tensor:
        """The state once (…) digits of a level are taken."""
        return state + self.taken[level][digits]

    def log_probs(
        self, level: TrieLevel, number: int, states: torch.Tensor, nodes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of (…) nodes and the log-chance of each after its node, (…, widest); −∞ where there is none."""
        children, there = level.children(nodes)
        moved = states + self.downs[number](functional.silu(self.ups[number](self.norms[number](states))))
        learned = (moved @ self.codes[number].T + self.bias[number]).gather(-1, level.digits[children])
        logits = (level.scores(moved, children) + learned).masked_fill(~there, float("-inf"))
        return children, logits.log_softmax(dim=-1)

    def loss(self, members: torch.Tensor, trie: Trie, rows: torch.Tensor) -> torch.Tensor:
        """(n,) −log P of the digits of (n,) rows of the trie's titles, each given those before it."""
        states, lost = members, members.new_zeros(len(members))
        for number, level in enumerate(trie.levels):
            nodes, after = trie.ways[number][rows], trie.ways[number + 1][rows]
            chances = self.log_probs(level, number, states, nodes)[1]
            lost = lost - chances.gather(1, (after - level.begins[nodes])[:, None])[:, 0]
            states = self.advance(states, level.digits[after], number)
        return lost


_NO_SCORE = float("-inf")


@dataclass(frozen=True)
class BeamState:
    """Per member the best prefixes so far, (b, w): node of the trie, log-chance, and (b, w, dim) what is known."""

    nodes: torch.Tensor
    scores: torch.Tensor
    states: torch.Tensor

    @classmethod
    def of(cls, members: torch.Tensor) -> "BeamState":
        """The empty prefix of each of (b, dim) members."""
        nodes = torch.zeros(len(members), 1, dtype=torch.long)
        return cls(nodes, members.new_zeros(len(members), 1), members[:, None])


@torch.no_grad()
def beam_search(
    head: IdHead, trie: Trie, members: torch.Tensor, titles: torch.Tensor, count: int, beam: int, met: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` likeliest titles of each member and their log-chances, (b, count) each, best first.

    `members` (b, dim) carry the temperature, `titles` (m, dim) are unit vectors in the order of the trie's titles,
    `met` (b, m) are left out. Where the kept prefixes lead to fewer titles, −1 with −∞.
    """
    beams = BeamState.of(members)
    for number, level in enumerate(trie.levels):
        beams = _extend(head, level, number, beams, beam)
    rows, there = trie.leaves.children(beams.nodes)
    found = trie.leaves.digits[rows]
    scores = torch.einsum("bd,bwcd->bwc", members, titles[found]).masked_fill(~there, _NO_SCORE)
    scores = beams.scores[..., None] + scores.log_softmax(dim=-1)
    members_of = torch.arange(len(members))[:, None, None]
    flat = scores.masked_fill(~there | met[members_of, found], _NO_SCORE).flatten(1)
    best, places = flat.topk(min(count, flat.shape[1]), dim=1)
    chosen = torch.where(best > _NO_SCORE, found.flatten(1).gather(1, places), -1)
    short = (0, count - chosen.shape[1])
    return torch.nn.functional.pad(chosen, short, value=-1), torch.nn.functional.pad(best, short, value=_NO_SCORE)


def _extend(head: IdHead, level: TrieLevel, number: int, beams: BeamState, beam: int) -> BeamState:
    """The best prefixes that are one digit longer."""
    children, chances = head.log_probs(level, number, beams.states, beams.nodes)
    scores = (beams.scores[..., None] + chances).flatten(1)
    best, places = scores.topk(min(beam, scores.shape[1]), dim=1)
    before, nodes = places.div(children.shape[2], rounding_mode="floor"), children.flatten(1).gather(1, places)
    states = beams.states.gather(1, before[..., None].expand(-1, -1, beams.states.shape[2]))
    return BeamState(nodes, best, head.advance(states, level.digits[nodes], number))


FOLDER = "generator"
_WEIGHTS, _IDS, _HASHES = (f"{FOLDER}/{name}" for name in ("weights.safetensors", "ids.parquet", "hashes.json"))
_CODEBOOKS, _DIGITS = "codebooks", "digits"
_MEMBERS_PER_BATCH = 32


@dataclass(frozen=True)
class Generator:
    """A model, its head of digits, and the ids (n, levels + 1) of the n titles of its vocabulary."""

    trained: Checkpoint
    head: IdHead
    books: SemanticIds
    ids: Ids

    @classmethod
    def load(cls, path: str | Path) -> "Generator":
        """That of the model in a folder.

        Raises as `checkpoint.read`, NotFoundError where the model has none, CorruptError naming a file that is not
        the one written, EncoderError naming weights that are not finite.
        """
        trained, _ = checkpoint.load_checkpoint(str(path))
        folder = Storage(str(path))
        if not folder.exists(_HASHES):
            raise NotFoundError("this model has no generator", where=folder.uri, fix="train the task next_id")
        hashes = checkpoint.read_hashes(folder, _HASHES, (_WEIGHTS, _IDS))
        files = {name: folder.read(name) for name in hashes}
        for name, data in files.items():
            if sha256(data) != hashes[name]:
                raise CorruptError(f"{name} is not the file that was written", where=folder.uri, fix="train it again")
        tensors = load(files[_WEIGHTS])
        if fault := find_weights_fault(tensors.items()):
            raise EncoderError(
                f"the generator cannot be used: {fault}", where=f"{folder.uri}/{_WEIGHTS}", fix="train the task again"
            )
        books = SemanticIds(tensors.pop(_CODEBOOKS))
        head = IdHead(books).eval()
        head.load_state_dict(tensors)
        digits = table_of(files[_IDS], _IDS)[_DIGITS].combine_chunks()
        ids = np.asarray(digits.flatten(), np.int32).reshape(-1, books.levels + 1)
        return cls(trained, head, books, ids)

    def save(self, folder: Storage) -> None:
        """Write it into the folder of its model."""
        digits = pa.array(self.ids.tolist(), pa.list_(pa.int32()))
        titles = pa.table({schema.TITLE_ID: self.trained.vocabulary.title_ids, _DIGITS: digits})
        tensors = {_CODEBOOKS: self.books.codebooks, **self.head.state_dict()}
        weights = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        files = {_WEIGHTS: weights, _IDS: bytes(parquet_bytes(titles))}
        for name, data in files.items():
            folder.write(name, data)
        folder.write(_HASHES, json.dumps({name: sha256(data) for name, data in files.items()}, indent=1).encode())

    @torch.no_grad()
    def candidates(self, histories: pa.Table, catalogue: pa.Table, count: int, beam: int = 50) -> GeneratedSessions:
        """The `count` likeliest titles of a catalogue for each member, none of which it had met before.

        Rows of the catalogue and natural logarithms of their chances, (n, count), best first; −1 and −∞ where the kept
        prefixes lead to fewer. A title that the model has never met is reached by the id of its metadata's vector.
        """
        model, vocabulary = self.trained.model.eval(), self.trained.vocabulary
        members = torch.from_numpy(member_vectors(model, TokenSequences.of(histories, vocabulary))) * model.scale
        vectors = title_vectors(model, vocabulary, catalogue)
        trie, titles = Trie.of(self.ids_of(catalogue, vectors), vectors), torch.from_numpy(vectors)
        rows, scores = np.zeros((len(members), count), np.int64), np.zeros((len(members), count), np.float32)
        for at in range(0, len(members), _MEMBERS_PER_BATCH):
            part = slice(at, at + _MEMBERS_PER_BATCH)
            met = seen_titles(histories.slice(at, _MEMBERS_PER_BATCH), catalogue)
            found, likely = beam_search(self.head, trie, members[part], titles, count, beam, met)
            rows[part], scores[part] = found.numpy(), likely.numpy()
        return GeneratedSessions(rows, scores)

    def sessions(self, histories: pa.Table, catalogue: pa.Table, count: int, beam: int = 50) -> GeneratedSessions:
        """The next `count` titles of each member, one after the other, each the likeliest after those before it.

        As `decoding.next_titles`, with kept keys and values, but every title is generated; scores are log-chances.
        """
        model = self.trained.model.eval()
        vectors = title_vectors(model, self.trained.vocabulary, catalogue)
        trie = Trie.of(self.ids_of(catalogue, vectors), vectors)
        scale = float(model.scale)

        def pick(members: torch.Tensor, titles: torch.Tensor, met: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows, scores = beam_search(self.head, trie, members * scale, titles / scale, 1, beam, met)
            return scores[:, 0], rows[:, 0]

        return next_titles(self.trained, histories, catalogue, count, pick=pick)

    def ids_of(self, catalogue: pa.Table, vectors: np.ndarray) -> Ids:
        """(m, levels + 1) ids of a catalogue's titles: their own, or new ones that go on after those."""
        own = pc.index_in(catalogue[schema.TITLE_ID], value_set=self.trained.vocabulary.title_ids)
        rows = np.asarray(pc.fill_null(own, -1), np.int64)
        found = self.ids[rows]
        found[rows < 0] = self.books.assign(vectors[rows < 0], self.ids)
        return found
