"""From a member's events to tokens: adjacent events on one title are merged.

Works on sorted events whose members are complete, with NumPy over whole columns: no Python loop
over events or tokens. What merging promises to keep it keeps: sums of durations and numbers of
events over a member's tokens equal those of its events.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.histories.events import Codes, Events, Ints, run_starts


@dataclass(frozen=True)
class MergedEvents:
    """Tokens of consecutive members, oldest first: arrays of equal length, one entry per token.

    `member` and `title` are numbers, times microseconds since 1970, `actions` bit sets, `texts` the
    device, country and locale of each token's first event.
    """

    member: Codes
    title: Codes
    first: Ints
    last: Ints
    actions: Codes
    duration: npt.NDArray[np.float64]
    value: npt.NDArray[np.float32]
    events: Codes
    texts: dict[str, pa.DictionaryArray]

    def __len__(self) -> int:
        return len(self.member)

    @cached_property
    def starts(self) -> Ints:
        """Where each member's tokens begin, and at the end their number: (members + 1,)."""
        begin = np.flatnonzero(run_starts(self.member))
        return np.append(begin, len(self)).astype(np.int64)

    def keep_last(self, most: int) -> "MergedEvents":
        """Only the last `most` tokens of each member."""
        lengths = np.diff(self.starts)
        if not len(lengths) or lengths.max() <= most:
            return self
        from_end = np.repeat(self.starts[1:], lengths) - np.arange(len(self))
        return self._select(np.flatnonzero(from_end <= most))

    def _select(self, rows: Ints) -> "MergedEvents":
        return MergedEvents(
            member=self.member[rows],
            title=self.title[rows],
            first=self.first[rows],
            last=self.last[rows],
            actions=self.actions[rows],
            duration=self.duration[rows],
            value=self.value[rows],
            events=self.events[rows],
            texts={name: column.take(pa.array(rows)) for name, column in self.texts.items()},
        )


def merge_events(events: Events, gap_us: int) -> MergedEvents:
    """Merge sorted events into tokens.

    An event continues a token if it has the member and the title of the event before and comes at most
    `gap_us` microseconds after it.
    """
    begins = run_starts(events.member, events.title)
    begins[1:] |= np.diff(events.time) > gap_us
    starts = np.flatnonzero(begins)
    ends = np.append(starts, len(events))[1:]
    firsts = pa.array(starts)
    return MergedEvents(
        member=events.member[starts],
        title=events.title[starts],
        first=events.time[starts],
        last=events.time[ends - 1],
        actions=_reduce_runs(np.bitwise_or, _ACTION_BITS[events.action], starts),
        duration=_reduce_runs(np.add, events.duration, starts),
        value=_last_non_nan(events.value, starts),
        events=(ends - starts).astype(np.int32),
        texts={name: column.take(firsts) for name, column in events.texts.items()},
    )


_ACTION_BITS = np.append(0, 1 << np.arange(31)).astype(np.int32)


def _last_non_nan(value: npt.NDArray[np.float64], starts: Ints) -> npt.NDArray[np.float32]:
    """In each token the last value that is not NaN, NaN if there is none."""
    place = np.where(np.isnan(value), -1, np.arange(len(value)))
    last = _reduce_runs(np.maximum, place, starts)
    return np.where(last >= 0, value[last], np.nan).astype(np.float32)


def _reduce_runs(function: np.ufunc, values: npt.NDArray[Any], starts: Ints) -> npt.NDArray[Any]:
    """A function over the values of each token; `reduceat` alone cannot do none."""
    return function.reduceat(values, starts) if len(starts) else values[:0]
