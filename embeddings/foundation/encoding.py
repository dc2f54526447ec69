"""Members and titles through a trained model: no gradient, no dropout, no request context at the last position."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embeddings.foundation.metadata import signals
from embeddings.foundation.model import FoundationModel, TitleFeatures
from embeddings.foundation.tokens import Tokens
from embeddings.foundation.vocabulary import Vocabulary

_BATCH_TOKENS = 16_384
_TITLES = 16_384

Vectors = npt.NDArray[np.float32]


def features_of(catalogue: pa.Table, vocabulary: Vocabulary) -> TitleFeatures:
    """What the tower reads of a catalogue's titles, in its order."""
    return TitleFeatures(
        codes=torch.from_numpy(vocabulary.metadata.codes(catalogue)),
        content=torch.from_numpy(vocabulary.metadata.content(catalogue)),
        signals=torch.from_numpy(signals(catalogue)),
    )


@torch.no_grad()
def member_vectors(model: FoundationModel, tokens: Tokens) -> Vectors:
    """(members, dim) unit vectors after each member's last token, from at most the model's length of positions.

    Members of like length share a batch; the padding is on the right, where causal attention does not look.
    """
    model.eval()
    inputs, _ = model.known_titles()
    lengths = np.minimum(tokens.lengths + 1, model.length)
    first = tokens.starts[1:] - lengths
    result = np.zeros((len(lengths), model.transformer.project.out_features), np.float32)
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        rows = order[: max(1, _BATCH_TOKENS // int(lengths[order[0]]))]
        order = order[len(rows) :]
        result[rows] = _encoded(model, tokens, inputs, first[rows], lengths[rows])
    return result


def _encoded(
    model: FoundationModel,
    tokens: Tokens,
    inputs: torch.Tensor,
    first: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> Vectors:
    batch = tokens.windows(first, lengths)
    last = torch.from_numpy(lengths - 1)
    drop = torch.arange(batch.titles.shape[1])[None, :] >= last[:, None]
    states = model.members(batch, inputs, batch.titles, drop)
    vectors = model.transformer.vectors(states[torch.arange(len(last)), last])
    return vectors.numpy()


@torch.no_grad()
def title_vectors(model: FoundationModel, vocabulary: Vocabulary, catalogue: pa.Table) -> Vectors:
    """(m, dim) unit vectors of a catalogue's titles; those not in the vocabulary get theirs from metadata."""
    model.eval()
    rows, features = torch.from_numpy(vocabulary.rows(catalogue["title_id"])), features_of(catalogue, vocabulary)
    vectors = [model.titles(part, features.take(part_of)) for part_of, part in _parts(rows)]
    return torch.cat(vectors).numpy() if vectors else np.zeros((0, model.tower.ids.embedding_dim), np.float32)


def _parts(rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.arange(i, min(i + _TITLES, len(rows))), rows[i : i + _TITLES]) for i in range(0, len(rows), _TITLES)]
