"""The peer of our training: a plain PyTorch SASRec, as one finds it in most repositories.

Tied title embeddings, learned places, pre-norm blocks, cross-entropy over all titles, Adam at 1e-3, windows padded to
one length, a pass over every window an epoch (Kang and McAuley 2018; the loss of Klenitskiy and Vasilev 2023). The one
concession to small data: a batch has fewer windows than 128 where an epoch would have fewer than 50 steps.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.evaluation_queries import Queries
from embeddings.foundation.metrics import Ranking, inner_product_scorer, rank_titles
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.training_data import TrainingData

BATCHES, STEPS_AN_EPOCH, RATE = (16, 128), 50, 1e-3


class SASRec(nn.Module):
    """A causal transformer over titles; the inner product with a title's embedding is its logit."""

    def __init__(self, config: NetworkConfig, titles: int, length: int) -> None:
        super().__init__()
        self.titles = nn.Embedding(titles + 1, config.width, padding_idx=0)
        self.places = nn.Embedding(length, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.num_heads, config.width, config.dropout, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(
            layer, config.num_layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.titles.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, titles: torch.Tensor) -> torch.Tensor:
        """(b, l) rows, padded on the right, to (b, l, width)."""
        length = titles.shape[1]
        x = self.dropout(self.titles(titles) + self.places.weight[:length])
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        return self.body(x, mask=later)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over all titles of the positions that have a target."""
        asked = targets > 0
        scores = self(inputs)[asked] @ self.titles.weight[1:].T
        return functional.cross_entropy(scores, targets[asked] - 1)


@dataclass
class Course:
    """Cost and result of a training of the peer: `full_ndcg` is NDCG without a cut-off on held-out titles."""

    full_ndcg: float = 0.0
    epochs: float = 0.0
    best_epoch: float = 0.0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    converged: bool = False
    """Whether validation stopped improving before the time was up."""


def learn(
    lesson: TrainingData, config: NetworkConfig, length: int, seconds: float, patience: int
) -> tuple[SASRec, Course]:
    """Train for so many seconds, or until so many epochs brought no better validation; the best weights."""
    torch.manual_seed(0)
    model, course = SASRec(config, len(lesson.vocabulary.title_ids), length), Course()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98))
    inputs, targets = windows(lesson.tokens, length)
    size = batch_size(len(inputs))
    per_epoch, tokens, kept = -(-len(inputs) // size), 0, copy.deepcopy(model.state_dict())
    for done, (one, two) in enumerate(batches(inputs, targets, size), 1):
        begun = time.monotonic()
        optimiser.zero_grad(set_to_none=True)
        model.loss(one, two).backward()
        optimiser.step()
        tokens, course.seconds = tokens + int((two > 0).sum()), course.seconds + time.monotonic() - begun
        if done % per_epoch == 0 or course.seconds > seconds:
            course.epochs = done / per_epoch
            gain = answers(model, lesson, lesson.queries, lesson.vocabulary.title_ids).full_ndcg()
            if gain > course.full_ndcg:
                course.full_ndcg, course.best_epoch, kept = gain, course.epochs, copy.deepcopy(model.state_dict())
            course.converged = course.epochs - course.best_epoch >= patience
            if course.converged or course.seconds > seconds:
                break
    course.tokens_per_second = tokens / course.seconds
    model.load_state_dict(kept)
    return model, course


@torch.no_grad()
def answers(model: SASRec, lesson: TrainingData, queries: Queries, title_ids: pa.Array) -> Ranking:
    """How the peer ranks titles; those that it never met come last."""
    model.eval()
    tokens, length, vectors = TokenSequences.of(queries.histories, lesson.vocabulary), model.places.num_embeddings, []
    for start, count in zip(tokens.starts[:-1], tokens.lengths, strict=True):
        history = np.maximum(tokens.targets[start : start + count], 0)[-length:]
        vectors.append(model(torch.from_numpy(history)[None, :])[0, -1])
    rows = torch.from_numpy(lesson.vocabulary.rows(title_ids))
    unknown = (rows == 0).float()[:, None] * -1e9
    titles = torch.cat([model.titles.weight[rows], unknown], dim=1).numpy()
    members = torch.cat([torch.stack(vectors), torch.ones(len(vectors), 1)], dim=1).numpy()
    model.train()
    return rank_titles(inner_product_scorer(members, titles), queries, len(titles))


def windows(tokens: TokenSequences, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the inputs and of the targets, (windows, length): every history in pieces, padded with 0."""
    inputs, targets = [], []
    for start, count in zip(tokens.starts[:-1], tokens.lengths, strict=True):
        history = np.maximum(tokens.targets[start : start + count], 0)
        for end in range(len(history), 1, -length):
            piece = history[max(0, end - length - 1) : end]
            pad = length + 1 - len(piece)
            inputs.append(np.pad(piece[:-1], (0, pad)))
            targets.append(np.pad(piece[1:], (0, pad)))
    return np.stack(inputs), np.stack(targets)


def batch_size(windows: int) -> int:
    """Windows of a batch: 128, or fewer so that an epoch has enough steps."""
    return int(np.clip(windows // STEPS_AN_EPOCH, *BATCHES))


def batches(inputs: np.ndarray, targets: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Epoch after epoch, in random order."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(inputs))
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            yield torch.from_numpy(inputs[rows]), torch.from_numpy(targets[rows])
