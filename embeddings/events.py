"""Events as they were read, and sorted by member and time without exact duplicates: NumPy columns of equal length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.columns import COUNTRY, DEVICE, DURATION, EVENT_TIME, LOCALE, VALUE

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
TEXTS = (DEVICE, COUNTRY, LOCALE)


@dataclass(frozen=True)
class Events:
    """Accepted events, one entry each.

    `member` and `title` are numbers, `time` microseconds since 1970, `action` the 1-based place among the
    configured actions, `duration` NaN-free (0 if unknown), `value` NaN if none, `texts` dictionary-coded.
    """

    member: Codes
    title: Codes
    time: Ints
    action: npt.NDArray[np.int8]
    duration: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    texts: dict[str, pa.DictionaryArray]

    def __len__(self) -> int:
        return len(self.member)

    def take(self, rows: Ints) -> "Events":
        """Some events, in the order of `rows`."""
        places = pa.array(rows)
        texts = {name: column.take(places) for name, column in self.texts.items()}
        numbers = (self.member[rows], self.title[rows], self.time[rows], self.action[rows])
        return Events(*numbers, self.duration[rows], self.value[rows], texts)


@dataclass(frozen=True)
class Arrivals:
    """Events as they were read, with their place in the lake and the hash of what they say (`Snapshot.events`)."""

    events: Events
    pos: Ints
    content: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, block: pa.Table) -> "Arrivals":
        """The columns of a block of `Snapshot.events`."""
        events = Events(
            member=block["member"].to_numpy(),
            title=block["title_code"].to_numpy(),
            time=block[EVENT_TIME].to_numpy(),
            action=block["action_code"].to_numpy(),
            duration=_numbers(block, DURATION, 0.0),
            value=_numbers(block, VALUE, np.nan),
            texts={name: _coded(block, name) for name in TEXTS},
        )
        return cls(events, block["pos"].to_numpy(), block["content"].to_numpy())

    def apart(self, ends: Sequence[int]) -> list[Ints]:
        """The rows of each run of members; a run ends before the number in `ends`, which ascend."""
        run = np.searchsorted(ends, self.events.member, side="right").astype(np.min_scalar_type(len(ends)))
        rows = np.argsort(run, kind="stable")  # numbers of 8 or 16 bits are sorted by counting
        return np.split(rows, np.cumsum(np.bincount(run, minlength=len(ends))))[: len(ends)]

    def sorted(self, rows: Ints) -> tuple[Events, Ints]:
        """Some events by member, then time, then place in the lake, without repeats; second the `pos` of those."""
        member, time, pos = self.events.member[rows], self.events.time[rows], self.pos[rows]
        order = sort_order(member, time, pos)
        repeats = duplicates(member[order], time[order], self.content[rows[order]])
        return self.events.take(rows[order[~repeats]]), pos[order[repeats]]


def sort_order(member: Codes, time: Ints, pos: Ints) -> Ints:
    """The order of rows by member, then time, then place in the lake: (n,) int64, n < 2³².

    By time, and then (member, place among all times) packed into one number: two sorts of whole numbers take a sixth
    of the time of one by three columns. That is left for the rows that share member and microsecond.
    """
    by_time = np.argsort(time)
    packed = (member[by_time].astype(np.int64) << 32) | np.arange(len(time))
    packed.sort()
    order: Ints = by_time[packed & 0xFFFF_FFFF]
    begins = changes(member[order], time[order])
    shared = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    rows = order[shared]
    order[shared] = rows[np.lexsort((pos[rows], time[rows], member[rows]))]
    return order


def duplicates(member: Codes, time: Ints, content: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the sorted events repeat an earlier one in every column: (n,) bool.

    `content` is a 64-bit hash of the columns other than member and time, so two events count as equal by
    mistake only if they share member, microsecond and hash.
    """
    repeats = np.zeros(len(member), bool)
    begins = changes(member, time)
    shared = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    if len(shared):
        run, content = np.cumsum(begins[shared]), content[shared]
        by_content = np.lexsort((shared, content, run))
        repeats[shared[by_content]] = ~changes(run[by_content], content[by_content])
    return repeats


def changes(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each place differs from the one before in any of the arrays; the first one does."""
    differs = np.ones(len(arrays[0]), bool)
    differs[1:] = False
    for array in arrays:
        differs[1:] |= array[1:] != array[:-1]
    return differs


def _numbers(block: pa.Table, name: str, missing: float) -> npt.NDArray[np.float64]:
    if name not in block.column_names:
        return np.full(block.num_rows, missing)
    values: npt.NDArray[np.float64] = pc.fill_null(block[name], missing).to_numpy()
    return values


def _coded(block: pa.Table, name: str) -> pa.DictionaryArray:
    column = block[name] if name in block.column_names else pa.nulls(block.num_rows, pa.string())
    coded = column.dictionary_encode()
    return coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
