"""Events as NumPy columns: read, sorted by member and time without exact duplicates, and their profile."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.config import HistoriesConfig
from stores.schema import COUNTRY, DEVICE, DURATION, EVENT_TIME, LOCALE, VALUE

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
TEXT_COLUMNS = (DEVICE, COUNTRY, LOCALE)


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
class RawEvents:
    """Events as they were read, with their place in the lake and the hash of what they say (`Snapshot.events`)."""

    events: Events
    pos: Ints
    content: npt.NDArray[np.uint64]

    @classmethod
    def from_batch(cls, block: pa.Table) -> "RawEvents":
        """The columns of a block of `Snapshot.events`."""
        events = Events(
            member=block["member"].to_numpy(),
            title=block["title_code"].to_numpy(),
            time=block[EVENT_TIME].to_numpy(),
            action=block["action_code"].to_numpy(),
            duration=_number_column(block, DURATION, 0.0),
            value=_number_column(block, VALUE, np.nan),
            texts={name: _dictionary_column(block, name) for name in TEXT_COLUMNS},
        )
        return cls(events, block["pos"].to_numpy(), block["content"].to_numpy())

    def split_by_member(self, ends: Sequence[int]) -> list[Ints]:
        """The rows of each run of members; a run ends before the number in `ends`, which ascend."""
        run = np.searchsorted(ends, self.events.member, side="right").astype(np.min_scalar_type(len(ends)))
        rows = np.argsort(run, kind="stable")  # numbers of 8 or 16 bits are sorted by counting
        return np.split(rows, np.cumsum(np.bincount(run, minlength=len(ends))))[: len(ends)]

    def sorted(self, rows: Ints) -> tuple[Events, Ints]:
        """Some events by member, then time, then place in the lake, without repeats; second the `pos` of those."""
        member, time, pos = self.events.member[rows], self.events.time[rows], self.pos[rows]
        order = sort_order(member, time, pos)
        repeats = is_duplicate(member[order], time[order], self.content[rows[order]])
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
    begins = run_starts(member[order], time[order])
    shared = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    rows = order[shared]
    order[shared] = rows[np.lexsort((pos[rows], time[rows], member[rows]))]
    return order


def is_duplicate(member: Codes, time: Ints, content: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the sorted events repeat an earlier one in every column: (n,) bool.

    `content` is a 64-bit hash of the columns other than member and time, so two events count as equal by
    mistake only if they share member, microsecond and hash.
    """
    repeats = np.zeros(len(member), bool)
    begins = run_starts(member, time)
    shared = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    if len(shared):
        run, content = np.cumsum(begins[shared]), content[shared]
        by_content = np.lexsort((shared, content, run))
        repeats[shared[by_content]] = ~run_starts(run[by_content], content[by_content])
    return repeats


def run_starts(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each place differs from the one before in any of the arrays; the first one does."""
    differs = np.ones(len(arrays[0]), bool)
    differs[1:] = False
    for array in arrays:
        differs[1:] |= array[1:] != array[:-1]
    return differs


def _number_column(block: pa.Table, name: str, missing: float) -> npt.NDArray[np.float64]:
    if name not in block.column_names:
        return np.full(block.num_rows, missing)
    values: npt.NDArray[np.float64] = pc.fill_null(block[name], missing).to_numpy()
    return values


def _dictionary_column(block: pa.Table, name: str) -> pa.DictionaryArray:
    column = block[name] if name in block.column_names else pa.nulls(block.num_rows, pa.string())
    coded = column.dictionary_encode()
    return coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded


PROFILE_DAYS, MAX_COUNTRIES = 14, 100
MICROS_PER_DAY = 86_400_000_000
BINS_PER_OCTAVE, OCTAVES = 32, 24
"""Durations from 1 s to 2²⁴ s have geometric bins, each 2.2 % wide; those outside fall into the first and last."""


class EventProfile:
    """Counts of the accepted events; the *last day* is the 24 hours that end with the newest event."""

    def __init__(self, newest: int, config: HistoriesConfig) -> None:
        self.newest, self.config = newest, config
        self.days = np.zeros(PROFILE_DAYS, np.int64)
        self.countries: Counter[str] = Counter()
        self.last_day = 0
        self.last_countries: Counter[str] = Counter()
        self.durations = np.zeros((len(config.actions) + 1, BINS_PER_OCTAVE * OCTAVES), np.int64)

    def add(self, events: Events) -> None:
        """Count a block of events."""
        ago = self.newest // MICROS_PER_DAY - events.time // MICROS_PER_DAY
        self.days += np.bincount(ago[ago < PROFILE_DAYS], minlength=PROFILE_DAYS)
        self.countries.update(_count_by_name(events.texts[COUNTRY]))
        late = events.time > self.newest - MICROS_PER_DAY
        self.last_day += int(late.sum())
        self.last_countries.update(_count_by_name(events.texts[COUNTRY].filter(pa.array(late))))
        timed = late & (events.duration > 0)
        np.add.at(self.durations, (events.action[timed], _bins(events.duration[timed])), 1)

    def metrics(self) -> dict[str, Any]:
        """JSON-able figures.

        `days`: events by day (UTC), the newest first; `countries`: events by country; `last_day`: its events,
        those by country, and of each watch action the median duration in seconds over `count` events.
        """
        first = self.newest // MICROS_PER_DAY
        dates = [datetime.fromtimestamp((first - ago) * 86_400, UTC).date().isoformat() for ago in range(PROFILE_DAYS)]
        return {
            "days": {day: count for day, count in zip(dates, self.days.tolist(), strict=True) if count},
            "countries": dict(self.countries.most_common(MAX_COUNTRIES)),
            "last_day": {
                "events": self.last_day,
                "countries": dict(self.last_countries.most_common(MAX_COUNTRIES)),
                "durations": self._durations(),
            },
        }

    def _durations(self) -> dict[str, dict[str, Any]]:
        found = {}
        for code, action in enumerate(self.config.actions, 1):
            count = int(self.durations[code].sum())
            if count and action in self.config.watch_actions:
                middle = int(np.searchsorted(np.cumsum(self.durations[code]), (count + 1) // 2))
                found[action] = {"median_s": round(2.0 ** ((middle + 0.5) / BINS_PER_OCTAVE), 2), "count": count}
        return found


def _bins(seconds: npt.NDArray[np.float64]) -> Ints:
    place = np.floor(np.log2(np.maximum(seconds, 1.0)) * BINS_PER_OCTAVE)
    return np.asarray(np.minimum(place, BINS_PER_OCTAVE * OCTAVES - 1), np.int64)


def _count_by_name(names: pa.DictionaryArray) -> dict[str, int]:
    """Rows by name; rows without one are not counted."""
    pairs = pc.value_counts(names.indices.drop_null()).to_pylist()
    words = names.dictionary.to_pylist()
    return {words[pair["values"]]: pair["counts"] for pair in pairs if words[pair["values"]] is not None}
