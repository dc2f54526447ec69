"""The foundation model behind the `Encoder` protocol."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encoding import Vectors, member_vectors, title_vectors
from embeddings.foundation.tokens import Tokens


class FoundationEncoder:
    """A trained foundation model.

    Every vector has the length τ^-½, τ the learned temperature, so an inner product is the trained logit.
    """

    def __init__(self, trained: Checkpoint, model_id: str) -> None:
        self.model_id = model_id
        self.dim = trained.config.network.dim
        self._trained = trained
        self._length = np.float32(trained.model.scale.item() ** 0.5)

    @classmethod
    def load(cls, path: str | Path) -> "FoundationEncoder":
        """The model in the folder `path`. Raises as `checkpoint.read`."""
        return cls(*checkpoint.read(str(path)))

    def encode_members(self, histories: pa.Table) -> Vectors:
        """(n, dim) float32 for rows of `columns.history_schema`; an empty history gets the vector of the start."""
        return self._length * member_vectors(self._trained.model, Tokens.of(histories, self._trained.vocabulary))

    def encode_titles(self, titles: pa.Table) -> Vectors:
        """(m, dim) float32 for rows of `columns.catalogue_schema`; unknown titles get theirs from metadata."""
        return self._length * title_vectors(self._trained.model, self._trained.vocabulary, titles)
