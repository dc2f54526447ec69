"""The foundation model behind the `Encoder` protocol."""

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from embeddings.encode.encoder import PREFERENCES
from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encode import (
    Vectors,
    fast_states,
    member_states,
    plain_states,
    project_states,
    title_vectors,
)
from embeddings.foundation.inference import LastPositionForward
from embeddings.foundation.network import has_fast_bf16
from embeddings.foundation.sequences import TokenSequences
from stores.errors import MismatchError


class FoundationEncoder:
    """A trained foundation model.

    Every vector has the length τ^-½, τ the learned temperature, so an inner product is the trained logit.
    """

    accepts_dictionary_encoded = True

    def __init__(self, trained: Checkpoint, model_id: str, device: str = "cpu", precision: str = "fp32") -> None:
        self.model_id = model_id
        self.dim = trained.config.network.dim
        self._trained = trained
        self._length = np.float32(trained.model.scale.item() ** 0.5)
        there, dtype = torch.device(device), torch.bfloat16 if precision == "bf16" else torch.float32
        self._inference = (
            LastPositionForward(trained.model, dtype, there) if LastPositionForward.supports(trained.model) else None
        )
        self._model = trained.model if there == trained.model.device else copy.deepcopy(trained.model).to(there)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "FoundationEncoder":
        """The model in the folder `path`, to compute on "cpu" or "cuda". Raises as `checkpoint.read`."""
        return cls(*checkpoint.load_checkpoint(str(path)), device)

    @property
    def fast_precision(self) -> str:
        """bf16 where the processor or GPU multiplies it faster than float32, else fp32."""
        return "bf16" if self._inference and (torch.cuda.is_available() or has_fast_bf16()) else "fp32"

    def with_precision(self, precision: str, device: str) -> "FoundationEncoder":
        """The same model with linear layers in "fp32" or "bf16", on "cpu" or "cuda".

        Networks of other blocks and those with latents have one precision, fp32; they too compute on the device.
        """
        return FoundationEncoder(self._trained, self.model_id, device, precision)

    def encode_members(self, histories: pa.Table) -> Vectors:
        """(n, dim) float32 for rows of `columns.history_schema`; an empty history gets the vector of the start."""
        model = self._trained.model
        tokens = TokenSequences.of(histories, self._trained.vocabulary, model.receptive_field + 1)
        states = fast_states(self._inference, tokens) if self._inference else plain_states(self._model, tokens)
        return self._length * project_states(model, states)

    def encode_titles(self, titles: pa.Table) -> Vectors:
        """(m, dim) float32 for rows of `columns.catalogue_schema`; unknown titles get theirs from metadata."""
        return self._length * title_vectors(self._model, self._trained.vocabulary, titles)

    def catalogue_notes(self, catalogue: pa.Table) -> list[str]:
        """What is missing of the content vectors that the model was trained with, as sentences.

        Titles without one are encoded as titles without one. Raises MismatchError, naming both widths, where no title
        has the width while others have another: then the whole catalogue would lie where its metadata alone put it.
        """
        fault, unreadable = self._trained.vocabulary.metadata.content_fault(catalogue)
        if unreadable:
            raise MismatchError(
                fault,
                where=f"model {self.model_id}; titles, column embedding",
                expected="content vectors of the encoder that the model was trained with",
                fix="samespace train: a model learns the content vectors that are there",
            )
        return [fault] if fault else []

    def preferences(self, histories: pa.Table) -> pa.Table:
        """The genres and languages of what each member plays next, best first, with the schema `PREFERENCES`."""
        return preferences(self._trained, histories)

    def encode_genres(self) -> tuple[list[str], Vectors]:
        """The genres that the model knows and their (g, dim) float32 vectors among the titles."""
        names, vectors = genre_vectors(self._trained)
        return names, self._length * vectors


_COLUMNS = {"genres": ("genres", "genre_share"), "language": ("languages", "language_share")}


@torch.no_grad()
def preferences(trained: Checkpoint, histories: pa.Table) -> pa.Table:
    """Per history the genres and languages of the next title and their shares, best first: `PREFERENCES`."""
    model, known = trained.model, trained.vocabulary.metadata.values
    normed = model.transformer.norm(
        member_states(model, TokenSequences.of(histories, trained.vocabulary, model.receptive_field + 1))
    )
    found: dict[str, pa.Array] = {}
    for field, names in _COLUMNS.items():
        if field in model.heads.places:
            shares, order = torch.sort(model.heads.value_probs(field, normed), dim=1, descending=True, stable=True)
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
    codes = model.known_codes[1:-1, metadata.field_columns()["genres"]]
    _, titles = model.known_titles()
    has = torch.zeros(len(codes), len(names) + 1).scatter_(1, codes, 1.0)[:, 1:]
    return names, torch.nn.functional.normalize(has.T @ titles, dim=1).numpy()
