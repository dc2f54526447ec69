"""Targets from a future window: what a vector that is a day or two old will be asked for.

A nightly vector does not see what a member did since. Trained on the next title alone it is too sure
of that one; so some targets are drawn from all that the member met some hours after the position (the
dense all-action loss of PinnerFormer, Pancha et al., KDD 2022, with one draw per position). The window
begins after the present session: within it the next title is the better answer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embeddings.foundation.tokens import Tokens

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Future:
    """Per position the first and the last one whose title was met within the window; none where first > last."""

    targets: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, tokens: Tokens, hours: tuple[float, float]) -> "Future":
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
