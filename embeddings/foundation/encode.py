"""Members and titles through a trained model: no gradient, no dropout, no request context at the last position."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embeddings.encode.bisection import encode_in_halves
from embeddings.foundation.inference import LastPositionForward
from embeddings.foundation.metadata import trust_signals
from embeddings.foundation.model import FoundationModel, TitleFeatures, select_past
from embeddings.foundation.sequences import Batch, TokenSequences
from embeddings.foundation.vocabulary import Vocabulary

_BATCH_TOKENS = 16_384
_TITLES_PER_BATCH = 16_384

MIN_BATCH_ROWS = 4
"""Fewer rows are filled up: for one or two a product takes another path, whose last bits differ."""

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def title_features(catalogue: pa.Table, vocabulary: Vocabulary) -> TitleFeatures:
    """What the tower reads of a catalogue's titles, in its order."""
    return TitleFeatures(
        codes=torch.from_numpy(vocabulary.metadata.codes(catalogue)),
        content=torch.from_numpy(vocabulary.metadata.content(catalogue)),
        signals=torch.from_numpy(trust_signals(catalogue)),
    )


def member_vectors(model: FoundationModel, tokens: TokenSequences) -> Vectors:
    """(members, dim) unit vectors after each member's last token, from at most the model's length of positions."""
    return project_states(model, member_states(model, tokens))


@torch.no_grad()
def project_states(model: FoundationModel, states: torch.Tensor) -> Vectors:
    """(members, dim) unit vectors of (members, width) states."""
    vectors: Vectors = model.vectors(states).numpy()
    return vectors


def member_states(model: FoundationModel, tokens: TokenSequences) -> torch.Tensor:
    """(members, width) states after each member's last token."""
    return (
        fast_states(LastPositionForward(model), tokens)
        if LastPositionForward.supports(model)
        else plain_states(model, tokens)
    )


def fast_states(inference: LastPositionForward, tokens: TokenSequences) -> torch.Tensor:
    """What `member_states` says, by a prepared model. Raises MemoryError where one member alone needs too much."""
    lengths = np.minimum(tokens.lengths + 1, inference.length)
    first, padded = tokens.starts[1:] - lengths, padded_lengths(lengths, inference.length)
    result = np.zeros((len(lengths), inference.width), np.float32)

    def encode(rows: Rows) -> None:
        few = rows if len(rows) >= MIN_BATCH_ROWS else np.resize(rows, MIN_BATCH_ROWS)
        windows = inference.windows(tokens, first[few], lengths[few], int(padded[rows[0]]))
        result[rows] = inference.states(windows)[: len(rows)].numpy()

    for rows in length_batches(padded, inference.max_positions_per_batch):
        encode_in_halves(encode, rows)
    return torch.from_numpy(result)


def padded_lengths(lengths: Rows, longest: int) -> Rows:
    """To what each window is padded: multiples of four, then of about a sixteenth, so that padding stays a few percent.

    It follows from the window's own length alone; see `inference`.
    """
    step = np.maximum(4, 2 ** np.log2(np.maximum(lengths, 16) / 16).astype(np.int64))
    return np.minimum(-(-lengths // step) * step, longest)


def length_batches(padded: Rows, budget: int) -> Iterator[Rows]:
    """Rows in batches of one padded length and about `max_positions_per_batch` positions, the longest first."""
    order = np.argsort(-padded, kind="stable")
    sizes, begins = np.unique(-padded[order], return_index=True)
    for size, begin, end in zip(-sizes, begins, np.append(begins, len(order))[1:], strict=True):
        step = max(1, budget // int(size))
        for at in range(begin, end, step):
            yield order[at : min(at + step, end)]


@torch.no_grad()
def plain_states(model: FoundationModel, tokens: TokenSequences) -> torch.Tensor:
    """What `member_states` says, by the modules of the model themselves: for networks of other blocks.

    It computes where the model's weights are; the states are on the processor. Members of like length share a batch;
    the padding is on the right, where causal attention does not look.
    """
    model.eval()
    inputs, _ = model.known_titles()
    lengths = np.minimum(tokens.lengths + 1, model.length)
    first = tokens.starts[1:] - lengths
    result = torch.zeros(len(lengths), model.transformer.project.in_features)

    def encode(rows: Rows) -> None:
        result[rows] = _last_states(model, tokens, inputs, first[rows], lengths[rows]).cpu()

    for rows in length_batches(lengths, _BATCH_TOKENS):
        encode_in_halves(encode, rows)
    return result


def _last_states(
    model: FoundationModel,
    tokens: TokenSequences,
    inputs: torch.Tensor,
    first: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> torch.Tensor:
    batch = tokens.windows(first, lengths)
    if not model.is_windowed:
        batch = replace(batch, past=select_past(tokens, first, model.past_events))
    return last_states(model, batch.to(model.device), inputs, torch.from_numpy(lengths - 1).to(model.device))


def last_states(model: FoundationModel, batch: Batch, inputs: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """(b, width) states at the positions `last` (b,) of windows, without their request; all on the model's device."""
    drop = torch.arange(batch.titles.shape[1], device=last.device)[None, :] >= last[:, None]
    states = model.members(batch, inputs, batch.titles, drop)
    return states[torch.arange(len(last), device=last.device), last]


@torch.no_grad()
def title_vectors(model: FoundationModel, vocabulary: Vocabulary, catalogue: pa.Table) -> Vectors:
    """(m, dim) unit vectors of a catalogue's titles; those not in the vocabulary get theirs from metadata.

    It computes where the model's weights are.
    """
    model.eval()
    rows, features = torch.from_numpy(vocabulary.rows(catalogue["title_id"])), title_features(catalogue, vocabulary)
    there = model.device
    vectors = [model.titles(part.to(there), features.take(some).to(there)).cpu() for some, part in _row_batches(rows)]
    return torch.cat(vectors).numpy() if vectors else np.zeros((0, model.tower.ids.embedding_dim), np.float32)


def _row_batches(rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (torch.arange(i, min(i + _TITLES_PER_BATCH, len(rows))), rows[i : i + _TITLES_PER_BATCH])
        for i in range(0, len(rows), _TITLES_PER_BATCH)
    ]
