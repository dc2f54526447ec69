"""Semantic ids: a title as a few digits, the first ones coarse, so that like titles share a prefix.

Residual k-means over unit title vectors: a level's codebook is fitted on what the levels before it left (residual
quantisation, Juang and Gray 1982; as ids of items, TIGER, Rajput et al. 2023). Codebooks are fitted once
per space and frozen; a new title takes the nearest code of each level. Titles with the same codes are told apart by a
last digit, which counts from 0 and means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.nn import functional

from embeddings.foundation.config import SemanticIdsConfig, num_codes
from stores.errors import CorruptError, EncoderError, MismatchError, UsageError
from stores.files.filesystem import Storage

FILE = "semantic_ids.safetensors"
_CODEBOOKS = "codebooks"
_ROWS_PER_BATCH = 65_536

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class SemanticIds:
    """Frozen codebooks, (levels, codes, dim) float32."""

    codebooks: torch.Tensor

    @classmethod
    def fit(cls, vectors: Vectors, config: SemanticIdsConfig | None = None) -> "SemanticIds":
        """Codebooks of (n, dim) title vectors, whatever their length; the same input gives the same codebooks.

        Raises UsageError for fewer than two titles, EncoderError where a vector is not finite.
        """
        config = config or SemanticIdsConfig()
        if len(vectors) < 2:
            raise UsageError(f"semantic ids of {len(vectors)} titles", expected="at least two titles to compare")
        random = torch.Generator().manual_seed(config.seed)
        left = _unit_rows(vectors)
        if len(left) > config.sample:
            left = left[torch.randperm(len(left), generator=random)[: config.sample]]
        codes, codebooks = num_codes(config, len(vectors)), []
        for _ in range(config.levels):
            codebooks.append(_kmeans(left, codes, config.rounds, random))
            left = left - codebooks[-1][_nearest(left, codebooks[-1])]
        return cls(torch.stack(codebooks))

    @property
    def levels(self) -> int:
        """Digits before the last."""
        return len(self.codebooks)

    def codes(self, vectors: Vectors) -> Ids:
        """(n, dim) vectors to (n, levels) int32 codes.

        Raises MismatchError for another width, EncoderError where a vector is not finite.
        """
        if vectors.shape[1] != self.codebooks.shape[2]:
            raise MismatchError(
                f"title vectors have width {vectors.shape[1]}",
                where="semantic ids",
                expected=f"width {self.codebooks.shape[2]}, that of the codebooks",
                fix="fit new codebooks in a new space",
            )
        left, digits = _unit_rows(vectors), []
        for codebook in self.codebooks:
            digits.append(_nearest(left, codebook))
            left = left - codebook[digits[-1]]
        return torch.stack(digits, dim=1).numpy().astype(np.int32)

    def assign(self, vectors: Vectors, taken: Ids | None = None) -> Ids:
        """(n, dim) vectors to unique ids, (n, levels + 1) int32; the last digit counts in the order of the rows.

        `taken` (m, levels + 1) are ids of other titles, which keep theirs: last digits go on after them.
        """
        codes = self.codes(vectors)
        taken = np.zeros((0, self.levels + 1), np.int32) if taken is None else taken
        prefixes = np.concatenate([taken[:, :-1], codes])
        _, group = np.unique(prefixes, axis=0, return_inverse=True)
        group = group.reshape(-1)
        begin = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
        np.maximum.at(begin, group[: len(taken)], taken[:, -1] + 1)
        own = group[len(taken) :]
        return np.concatenate([codes, (begin[own] + _place_in_group(own))[:, None].astype(np.int32)], axis=1)

    def vectors(self, ids: Ids) -> Vectors:
        """What (n, ≥ levels) ids say of their titles: the sums of their codes' vectors, (n, dim)."""
        digits = torch.from_numpy(np.ascontiguousarray(ids[:, : self.levels])).long()
        sums: Vectors = sum(book[digits[:, level]] for level, book in enumerate(self.codebooks)).numpy()
        return sums

    def save(self, storage: Storage, path: str = FILE) -> None:
        """Write the codebooks as one safetensors file."""
        storage.write(path, save({_CODEBOOKS: self.codebooks.contiguous()}))

    @classmethod
    def load(cls, storage: Storage, path: str = FILE) -> "SemanticIds":
        """The inverse of `save`. Raises CorruptError where the file is missing or holds something else."""
        try:
            return cls(load(storage.read(path))[_CODEBOOKS])
        except (SafetensorError, KeyError) as error:
            raise CorruptError(f"{path} holds no codebooks: {error}", where=storage.uri) from error


def collisions(ids: Ids) -> float:
    """The share of titles that some other title has the same codes as, before the last digit."""
    _, group, count = np.unique(ids[:, :-1], axis=0, return_inverse=True, return_counts=True)
    return float((count[group.reshape(-1)] > 1).mean()) if len(ids) else 0.0


def prefix_agreement(ids: Ids, genres: Sequence[Sequence[str]], digits: int = 1) -> tuple[float, float]:
    """How often two titles share their first digits: two of one genre, and any two.

    `genres` are those of each title; a pair counts once for each genre that both have.
    """
    _, prefix = np.unique(ids[:, :digits], axis=0, return_inverse=True)
    prefix = prefix.reshape(-1)
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(genres):
        for name in names:
            rows.setdefault(name, []).append(row)
    counted = [_pairs(prefix[found]) for found in rows.values()]
    alike, pairs = (sum(count) for count in zip(*counted, strict=True)) if counted else (0, 0)
    every_alike, every = _pairs(prefix)
    return alike / max(pairs, 1), every_alike / max(every, 1)


def _pairs(prefix: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Pairs with one prefix, and all pairs."""
    counts = np.bincount(prefix)
    return int((counts * (counts - 1)).sum()), len(prefix) * (len(prefix) - 1)


def _place_in_group(group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many rows before each are of its group."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    places = np.empty(len(group), np.int64)
    places[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return places


def _unit_rows(vectors: Vectors) -> torch.Tensor:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EncoderError(
            f"{len(bad):,} of {len(vectors):,} title vectors are not finite, the first in row {bad[0]}",
            where="semantic ids",
            expected="finite vectors",
            fix="look at the model: a vector that is not finite has no nearest code",
        )
    return functional.normalize(torch.from_numpy(np.array(vectors, np.float32)), dim=1)


def _nearest(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """(n,) the centre with the smallest ‖p − c‖² = ‖p‖² − 2(p·c − ‖c‖²/2) of each point."""
    half = 0.5 * (centres**2).sum(dim=1)
    return torch.cat([(part @ centres.T - half).argmax(dim=1) for part in points.split(_ROWS_PER_BATCH)])  # type: ignore[no-untyped-call]


def _kmeans(points: torch.Tensor, codes: int, rounds: int, random: torch.Generator) -> torch.Tensor:
    """(codes, dim) centres: Lloyd's rounds from k-means++; a centre without points moves to the worst-served point."""
    centres = _kmeans_plus_plus(points, codes, random)
    before = None
    for _ in range(rounds):
        owner = _nearest(points, centres)
        if before is not None and torch.equal(owner, before):
            break
        before = owner
        counts = torch.bincount(owner, minlength=codes)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            error = ((points - centres[owner]) ** 2).sum(dim=1)
            worst = error.topk(min(len(empty), len(points))).indices
            centres[empty[: len(worst)]] = points[worst]
    return centres


def _kmeans_plus_plus(points: torch.Tensor, codes: int, random: torch.Generator) -> torch.Tensor:
    """k-means++: each further centre is a point drawn by its squared distance from the nearest centre so far."""
    chosen = [int(torch.randint(len(points), (1,), generator=random))]
    distance = torch.full((len(points),), torch.inf)
    for _ in range(codes - 1):
        distance = torch.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(dim=1))
        total = distance.cumsum(0, dtype=torch.float64)
        drawn = torch.rand(1, generator=random, dtype=torch.float64) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, drawn)), len(points) - 1))
    return points[chosen].clone()
