"""Training windows drawn anew each epoch, and batches of like length with one budget of padded tokens."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

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


def epoch(tokens: Tokens, length: int, batch_tokens: int, random: np.random.Generator) -> Iterator[Batch]:
    """Batches of one pass in random order. Windows are grouped by about the same length, so little is padding."""
    first, lengths = windows(tokens, length, random)
    order = np.argsort(-lengths * random.uniform(0.8, 1.0, len(lengths)), kind="stable")
    groups = []
    while len(order):
        rows = max(1, batch_tokens // int(lengths[order[0]]))
        groups.append(order[:rows])
        order = order[rows:]
    for group in random.permutation(len(groups)):
        yield tokens.windows(first[groups[group]], lengths[groups[group]])


def endless(tokens: Tokens, length: int, batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Epoch after epoch, the same for the same seed."""
    random = np.random.default_rng(seed)
    while True:
        yield from epoch(tokens, length, batch_tokens, random)
