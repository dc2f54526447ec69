"""The foundation model behind the `Encoder` protocol."""

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation import checkpoint, preferences
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encoding import Vectors, plain_states, states_of, title_vectors, vectors_of
from embeddings.foundation.inference import Inference
from embeddings.foundation.precision import multiplies_bf16
from embeddings.foundation.tokens import Tokens
from stores.errors import MismatchError


class FoundationEncoder:
    """A trained foundation model.

    Every vector has the length τ^-½, τ the learned temperature, so an inner product is the trained logit.
    """

    reads_codes = True

    def __init__(self, trained: Checkpoint, model_id: str, device: str = "cpu", precision: str = "fp32") -> None:
        self.model_id = model_id
        self.dim = trained.config.network.dim
        self._trained = trained
        self._length = np.float32(trained.model.scale.item() ** 0.5)
        there, dtype = torch.device(device), torch.bfloat16 if precision == "bf16" else torch.float32
        self._inference = Inference(trained.model, dtype, there) if Inference.knows(trained.model) else None
        self._model = trained.model if there == trained.model.device else copy.deepcopy(trained.model).to(there)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "FoundationEncoder":
        """The model in the folder `path`, to compute on "cpu" or "cuda". Raises as `checkpoint.read`."""
        return cls(*checkpoint.read(str(path)), device)

    @property
    def fast_precision(self) -> str:
        """bf16 where the processor or GPU multiplies it faster than float32, else fp32."""
        return "bf16" if self._inference and (torch.cuda.is_available() or multiplies_bf16()) else "fp32"

    def tuned(self, precision: str, device: str) -> "FoundationEncoder":
        """The same model with linear layers in "fp32" or "bf16", on "cpu" or "cuda".

        Networks of other blocks and those with latents have one precision, fp32; they too compute on the device.
        """
        return FoundationEncoder(self._trained, self.model_id, device, precision)

    def encode_members(self, histories: pa.Table) -> Vectors:
        """(n, dim) float32 for rows of `columns.history_schema`; an empty history gets the vector of the start."""
        model = self._trained.model
        tokens = Tokens.of(histories, self._trained.vocabulary, model.reach + 1)
        states = states_of(self._inference, tokens) if self._inference else plain_states(self._model, tokens)
        return self._length * vectors_of(model, states)

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
        """The genres and languages of what each member plays next, best first, as `embeddings.encoder.PREFERENCES`."""
        return preferences.preferences(self._trained, histories)

    def encode_genres(self) -> tuple[list[str], Vectors]:
        """The genres that the model knows and their (g, dim) float32 vectors among the titles."""
        names, vectors = preferences.genre_vectors(self._trained)
        return names, self._length * vectors
