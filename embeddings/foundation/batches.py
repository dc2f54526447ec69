"""Training windows drawn anew each epoch, and batches of like length with one budget of padded tokens."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.future import Future
from embeddings.foundation.latents import past_of
from embeddings.foundation.tokens import Batch, Tokens

Ints = npt.NDArray[np.int64]


def windows(tokens: Tokens, length: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """First positions and lengths of windows that cover every target once.

    A history longer than `length` is cut at a random phase, so that over the epochs every target is
    seen at many places of a window.
    """
    targets = tokens.lengths
    phase = np.where(targets > length, random.integers(0, length, len(targets)), 0)
    counts = np.where(targets > 0, -(-(targets + phase) // length), 0)
    owner = np.repeat(np.arange(len(targets)), counts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = np.maximum(nth * length - phase[owner], 0)
    end = np.minimum((nth + 1) * length - phase[owner], targets[owner])
    return tokens.starts[owner] + begin, end - begin


def epoch(tokens: Tokens, length: int, batch_tokens: int, random: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """First positions and lengths of the windows of each batch of one pass, in random order.

    Windows are grouped by about the same length, so little is padding.
    """
    first, lengths = windows(tokens, length, random)
    order = np.argsort(-lengths * random.uniform(0.8, 1.0, len(lengths)), kind="stable")
    groups = []
    while len(order):
        rows = max(1, batch_tokens // int(lengths[order[0]]))
        groups.append(order[:rows])
        order = order[rows:]
    for group in random.permutation(len(groups)):
        yield first[groups[group]], lengths[groups[group]]


def endless(tokens: Tokens, length: int, config: TrainingConfig, seed: int, past: int = 0) -> Iterator[Batch]:
    """Epoch after epoch, the same for the same seed; some targets are drawn from the future window.

    With `past`, batches carry that many events from before their windows.
    """
    random = np.random.default_rng(seed)
    future = Future.of(tokens, config.future_hours) if config.future_share else None
    while True:
        for first, lengths in epoch(tokens, length, config.batch_tokens, random):
            batch = tokens.windows(first, lengths)
            if future is not None:
                targets = torch.from_numpy(future.draw(batch.targets.numpy(), first, config.future_share, random))
                batch = replace(batch, targets=targets, tenths=batch.tenths.masked_fill(targets != batch.targets, 0))
            yield replace(batch, past=past_of(tokens, first, past, random)) if past else batch
