"""Reading a model that is being trained: states at the targets of a batch, vectors of titles, gradients and all."""

import torch

from embeddings.foundation.model import FoundationModel
from embeddings.foundation.tokens import Batch


def states_of(model: FoundationModel, batch: Batch, dropped: float = 0.0) -> torch.Tensor:
    """(p, width) states at the p targets of a batch, a share of the positions without their request context."""
    rows, index = torch.unique(batch.titles, return_inverse=True)
    features = model.known.take(rows)
    inputs = model.tower.inputs(model.tower.parts(rows, features.codes, features.content))
    drop = torch.rand(batch.titles.shape) < dropped
    return model.members(batch, inputs, index, drop)[batch.targets > 0]


def titles_of(model: FoundationModel, rows: torch.Tensor) -> torch.Tensor:
    """(n,) vocabulary rows to (n, dim) unit vectors."""
    some, index = torch.unique(rows, return_inverse=True)
    return model.titles(some, model.known.take(some))[index]
