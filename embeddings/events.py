"""Events of a block, sorted by member and time, without exact duplicates: NumPy columns of equal length."""

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
    """Accepted events, one entry each: by member, then time, then place in the lake.

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

    def __getitem__(self, rows: slice) -> "Events":
        """Consecutive events, without a copy."""
        texts = {name: column[rows] for name, column in self.texts.items()}
        numbers = (self.member[rows], self.title[rows], self.time[rows], self.action[rows])
        return Events(*numbers, self.duration[rows], self.value[rows], texts)


def sorted_events(block: pa.Table) -> tuple[Events, Ints]:
    """Sort a block of `Snapshot.events` and drop the exact duplicates; second the `pos` of those dropped."""
    member, time, pos = (block[name].to_numpy() for name in ("member", EVENT_TIME, "pos"))
    order = sort_order(member, time, pos)
    repeats = duplicates(member[order], time[order], block["content"].to_numpy()[order])
    dropped = pos[order[repeats]]
    if repeats.any():
        order = order[~repeats]
    rows = pa.array(order)
    events = Events(
        member=member[order],
        title=block["title_code"].to_numpy()[order],
        time=time[order],
        action=block["action_code"].to_numpy()[order],
        duration=_numbers(block, DURATION, 0.0, order),
        value=_numbers(block, VALUE, np.nan, order),
        texts={name: _coded(block, name).take(rows) for name in TEXTS},
    )
    return events, dropped


def sort_order(member: Codes, time: Ints, pos: Ints) -> Ints:
    """The order of rows by member, then time, then place in the lake: (n,) int64.

    Rows arrive almost in the order of the lake, and most lakes are in the order of time. Then sorting
    (member, place) packed into one number is enough, and many times faster than sorting by three
    columns; members for whom it is not are sorted by all three.
    """
    by_pos = np.argsort(pos, kind="stable")
    packed = (member[by_pos].astype(np.int64) << 32) | np.arange(len(pos))
    packed.sort()
    order: Ints = by_pos[packed & 0xFFFF_FFFF]
    grouped, ordered = member[order], time[order]
    late = grouped[1:][~changes(grouped)[1:] & (ordered[1:] < ordered[:-1])]
    if len(late):
        mixed = np.flatnonzero(np.isin(grouped, late))
        rows = order[mixed]
        order[mixed] = rows[np.lexsort((pos[rows], time[rows], member[rows]))]
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


def _numbers(block: pa.Table, name: str, missing: float, order: Ints) -> npt.NDArray[np.float64]:
    if name not in block.column_names:
        return np.full(len(order), missing)
    values: npt.NDArray[np.float64] = pc.fill_null(block[name], missing).to_numpy()[order]
    return values


def _coded(block: pa.Table, name: str) -> pa.DictionaryArray:
    column = block[name] if name in block.column_names else pa.nulls(block.num_rows, pa.string())
    coded = column.dictionary_encode()
    return coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
