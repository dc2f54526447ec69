"""Parts of a trained model as modules of their own, for an application that builds its own network around them.

Both are ordinary `nn.Module`s whose weights can be frozen or trained further; each has only the weights that it needs.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encode import title_features
from embeddings.foundation.model import TitleFeatures
from embeddings.foundation.sequences import Batch, TokenSequences
from stores.errors import UsageError


class TitleTower(nn.Module):
    """Titles of a catalogue to vectors: what they are by id and metadata."""

    def __init__(self, trained: Checkpoint) -> None:
        super().__init__()
        self.tower, self.vocabulary = trained.model.tower, trained.vocabulary

    @classmethod
    def load(cls, path: str | Path) -> "TitleTower":
        """The title tower of the model in a folder. Raises as `checkpoint.read`."""
        return cls(checkpoint.load_checkpoint(str(path))[0])

    def features(self, catalogue: pa.Table) -> tuple[torch.Tensor, TitleFeatures]:
        """Vocabulary rows and features of `columns.catalogue_schema` titles: the two arguments of a call."""
        return torch.from_numpy(self.vocabulary.rows(catalogue["title_id"])), title_features(catalogue, self.vocabulary)

    def forward(self, rows: torch.Tensor, features: TitleFeatures) -> torch.Tensor:
        """(m, dim) unit vectors of titles; row 0, the unknown title, takes its from metadata alone."""
        return self.tower.outputs(self.tower.parts(rows, features.codes, features.content), features.signals)


class HistoryBody(nn.Module):
    """Histories to states: the embedding of tokens and the transformer. Titles enter as the model knew them."""

    titles: torch.Tensor

    def __init__(self, trained: Checkpoint) -> None:
        super().__init__()
        if not trained.model.is_windowed:
            raise UsageError("this body pools what lies before its window", expected="a model without latents")
        self.tokens, self.transformer = trained.model.tokens, trained.model.transformer
        self.vocabulary, self.length = trained.vocabulary, trained.model.length
        with torch.no_grad():
            self.register_buffer("titles", trained.model.known_titles()[0])

    @classmethod
    def load(cls, path: str | Path) -> "HistoryBody":
        """The body of the model in a folder. Raises as `checkpoint.read`, and UsageError for a model with latents."""
        return cls(checkpoint.load_checkpoint(str(path))[0])

    def windows(self, histories: pa.Table) -> tuple[Batch, torch.Tensor]:
        """The ends of n histories (`columns.history_schema`) as one batch, and the last position (n,) of each."""
        tokens = TokenSequences.of(histories, self.vocabulary)
        lengths = np.minimum(tokens.lengths + 1, self.length)
        return tokens.windows(tokens.starts[1:] - lengths, lengths), torch.from_numpy(lengths - 1)

    def forward(self, batch: Batch, last: torch.Tensor) -> torch.Tensor:
        """(n, l, width) normed states; nothing is known of the request at the last position."""
        drop = torch.arange(batch.titles.shape[1])[None, :] >= last[:, None]
        x = self.tokens(functional.embedding(batch.titles, self.titles), batch, drop)
        states: torch.Tensor = self.transformer.norm(self.transformer(x, batch.times))
        return states
