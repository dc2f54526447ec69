"""Training windows drawn anew each epoch, and batches of like length with one budget of padded tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.model import select_past
from embeddings.foundation.sequences import Batch, TokenSequences

Ints = npt.NDArray[np.int64]


def draw_windows(tokens: TokenSequences, length: int, random: np.random.Generator) -> tuple[Ints, Ints]:
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


def epoch_batches(
    tokens: TokenSequences, length: int, batch_tokens: int, random: np.random.Generator
) -> Iterator[tuple[Ints, Ints]]:
    """First positions and lengths of the windows of each batch of one pass, in random order.

    Windows are grouped by about the same length, so little is padding.
    """
    first, lengths = draw_windows(tokens, length, random)
    order = np.argsort(-lengths * random.uniform(0.8, 1.0, len(lengths)), kind="stable")
    groups = []
    while len(order):
        rows = max(1, batch_tokens // int(lengths[order[0]]))
        groups.append(order[:rows])
        order = order[rows:]
    for group in random.permutation(len(groups)):
        yield first[groups[group]], lengths[groups[group]]


def endless_batches(
    tokens: TokenSequences, length: int, config: TrainingConfig, seed: int, past: int = 0
) -> Iterator[Batch]:
    """Epoch after epoch, the same for the same seed; some targets are drawn from the future window.

    With `past`, batches carry that many events from before their windows.
    """
    random = np.random.default_rng(seed)
    future = FutureTargets.of(tokens, config.future_window_hours) if config.future_target_fraction else None
    while True:
        for first, lengths in epoch_batches(tokens, length, config.batch_tokens, random):
            batch = tokens.windows(first, lengths)
            if future is not None:
                targets = torch.from_numpy(
                    future.draw(batch.targets.numpy(), first, config.future_target_fraction, random)
                )
                batch = replace(batch, targets=targets, tenths=batch.tenths.masked_fill(targets != batch.targets, 0))
            yield replace(batch, past=select_past(tokens, first, past, random)) if past else batch


@dataclass(frozen=True)
class FutureTargets:
    """Per position the first and the last one whose title was met within the window; none where first > last."""

    targets: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, tokens: TokenSequences, hours: tuple[float, float]) -> "FutureTargets":
        """The windows of all positions, from so many hours after the position to so many."""
        owner = np.repeat(np.arange(len(tokens.starts) - 1), np.diff(tokens.starts))
        since, (begin, end) = tokens.times - tokens.times.min(), (round(hour * 3600) for hour in hours)
        keys = owner * (since.max() + end + 1) + since
        # `times` of a position is the end of the token before it, so the target of position p was met by times[p + 1].
        first = np.searchsorted(keys, keys + begin, side="right") - 1
        return cls(tokens.targets, first, np.searchsorted(keys, keys + end, side="right") - 2)

    def draw(self, targets: Ints, first: Ints, share: float, random: np.random.Generator) -> Ints:
        """(b, l) targets of windows that begin at positions `first`, a `share` of them drawn from the window.

        A position with no title in the window, or with one that is not known, keeps its own.
        """
        position = np.minimum(first[:, None] + np.arange(targets.shape[1])[None, :], len(self.last) - 1)
        begin, count = self.first[position], self.last[position] - self.first[position] + 1
        step = (random.random(targets.shape) * np.maximum(count, 1)).astype(np.int64)
        chosen = (random.random(targets.shape) < share) & (count > 0) & (targets > 0)
        drawn = np.where(chosen, self.targets[np.where(chosen, begin + step, position)], -1)
        return np.where(drawn > 0, drawn, targets)
