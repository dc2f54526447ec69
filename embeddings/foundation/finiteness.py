"""Refuse numbers that are not finite: in a step of a training, in the weights of a model, in the vectors that it gives.

A model with one weight that is NaN gives NaN for every member, and one whose vectors are all alike ranks by the order
of the rows. Neither may be written, named as the model of a night, or loaded.
"""

from collections.abc import Iterable

import numpy as np
import torch

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import NO_TARGET, POST_COLUMNS, REQUEST_COLUMNS, Batch

_SAMPLE_TITLES = 256
"""Titles, and members with one of them as history, that are encoded to look at a model."""
_MIN_DISTANCE = 1e-5
"""Unit vectors of different titles that are all nearer to one another than this are one vector."""
_MAX_NAMES_LISTED = 3


def nonfinite_names(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that have an entry that is NaN or infinite."""
    return [name for name, tensor in tensors if not bool(torch.isfinite(tensor).all())]


def format_names(names: list[str]) -> str:
    """At most three names, and the number of the others."""
    rest = f" and {len(names) - _MAX_NAMES_LISTED} more" if len(names) > _MAX_NAMES_LISTED else ""
    return ", ".join(names[:_MAX_NAMES_LISTED]) + rest


def find_weights_fault(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """What is wrong with named weights, as a sentence; empty where all are finite."""
    names = nonfinite_names(weights)
    return f"weights are not finite: {format_names(names)}" if names else ""


@torch.no_grad()
def find_model_fault(model: FoundationModel) -> str:
    """What makes a model unusable, as a sentence: its weights, or the vectors of a sample; empty where it is sound.

    The sample are at most 256 known titles, and as many members whose history is one of them.
    """
    if fault := find_weights_fault(model.state_dict().items()):
        return fault
    model.eval()
    inputs, titles = model.known_titles()
    rows = torch.from_numpy(np.unique(np.linspace(1, len(titles), _SAMPLE_TITLES).astype(np.int64)))
    members = model.vectors(_last_states(model, inputs, rows))
    return find_vectors_fault(titles[rows - 1].numpy(), "titles") or find_vectors_fault(members.numpy(), "members")


def find_vectors_fault(vectors: np.ndarray, kind: str) -> str:
    """What is wrong with (n, dim) unit vectors of different entities, as a sentence; empty where they are sound."""
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        return f"vectors of {bad:,} of {len(vectors):,} {kind} are not finite"
    if len(vectors) > 1 and np.abs(vectors - vectors[0]).max() < _MIN_DISTANCE:
        return f"all {len(vectors):,} {kind} have the same vector"
    return ""


def _last_states(model: FoundationModel, inputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(n, width) states after histories of one title each, given as (n,) rows of the vocabulary."""
    start = torch.full_like(rows, len(inputs) - 1)
    titles = torch.stack([start, rows], dim=1)
    nothing = torch.zeros_like(titles)
    batch = Batch(
        titles=titles,
        targets=torch.full_like(titles, NO_TARGET),
        codes=nothing.new_zeros((*titles.shape, len(POST_COLUMNS) + len(REQUEST_COLUMNS)), dtype=torch.int32),
        actions=nothing,
        times=nothing,
        valid=torch.ones_like(titles, dtype=torch.bool),
        weights=nothing.float(),
        tenths=nothing,
    )
    return model.members(batch, inputs, titles, torch.ones_like(titles, dtype=torch.bool))[:, -1]
