"""What the heads say of members as tables, and metadata values as vectors in the space of the titles."""

import numpy as np
import pyarrow as pa
import torch

from embeddings.encoder import PREFERENCES
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encoding import Vectors, member_states
from embeddings.foundation.tokens import Tokens

_COLUMNS = {"genres": ("genres", "genre_share"), "language": ("languages", "language_share")}


@torch.no_grad()
def preferences(trained: Checkpoint, histories: pa.Table) -> pa.Table:
    """Per history the genres and languages of the next title and their shares, best first: `PREFERENCES`."""
    model, known = trained.model, trained.vocabulary.metadata.values
    normed = model.transformer.norm(member_states(model, Tokens.of(histories, trained.vocabulary, model.reach + 1)))
    found: dict[str, pa.Array] = {}
    for field, names in _COLUMNS.items():
        if field in model.heads.places:
            shares, order = torch.sort(model.heads.shares(field, normed), dim=1, descending=True, stable=True)
            values = pa.array(known[field], pa.string()).take(pa.array(order.flatten().numpy()))
            ends = pa.array(np.arange(len(order) + 1) * len(known[field]), pa.int32())
            flat = [values, pa.array(shares.flatten().numpy())]
        else:
            ends = pa.array(np.zeros(len(normed) + 1), pa.int32())
            flat = [pa.array([], pa.string()), pa.array([], pa.float32())]
        found |= {name: pa.ListArray.from_arrays(ends, part) for name, part in zip(names, flat, strict=True)}
    return pa.table(found, schema=PREFERENCES)


@torch.no_grad()
def genre_vectors(trained: Checkpoint) -> tuple[list[str], Vectors]:
    """The genres that the model knows and their unit vectors (g, dim): the mean of all known titles with that genre."""
    model, metadata = trained.model, trained.vocabulary.metadata
    names = list(metadata.values.get("genres", ()))
    if not names:
        return [], np.zeros((0, trained.config.network.dim), np.float32)
    codes = model.known_codes[1:-1, metadata.places()["genres"]]
    _, titles = model.known_titles()
    has = torch.zeros(len(codes), len(names) + 1).scatter_(1, codes, 1.0)[:, 1:]
    return names, torch.nn.functional.normalize(has.T @ titles, dim=1).numpy()
