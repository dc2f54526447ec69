"""Next-title questions cut from histories: what was known, what came next, what had been seen."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores import schema

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EventTable:
    """All tokens, flat: whose, which candidate title (−1: none), seconds, whether the title is new to the member."""

    starts: Ints
    owner: Ints
    titles: Ints
    first: Ints
    last: Ints
    new: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, histories: pa.Table, title_ids: pa.Array) -> "EventTable":
        """Tokens in their order; `titles` are rows of `title_ids`, times are seconds."""
        lists = histories[schema.TITLE_ID].combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        found = pc.index_in(lists.flatten(), value_set=title_ids)
        titles = np.asarray(pc.fill_null(found, -1), dtype=np.int64)
        met = np.unique(owner * (len(title_ids) + 1) + titles, return_index=True)[1]
        new = np.zeros(len(titles), bool)
        new[met] = True
        first, last = (_seconds(histories[name]) for name in ("first_time", "last_time"))
        return cls(np.append(0, np.cumsum(lengths)), owner, titles, first, last, new & (titles >= 0))

    def positions(self) -> Ints:
        """Each token's place in its history, from 0."""
        return np.arange(len(self.owner)) - self.starts[self.owner]


@dataclass(frozen=True)
class Queries:
    """n questions over m candidate titles: which title does a member meet next, of those not yet seen?

    `histories` has one row per question; `targets` (n,) are rows of the candidates, −1 for a title
    that is none (a miss by definition); question i has seen `seen[seen_starts[i]:seen_starts[i + 1]]`.
    """

    histories: pa.Table
    targets: Ints
    times: Ints
    seen: Ints
    seen_starts: Ints

    def __len__(self) -> int:
        return len(self.targets)


def build_queries(histories: pa.Table, title_ids: pa.Array, asked: Ints, stale: int = 0) -> Queries:
    """The questions whose answers are the tokens `asked` (flat positions, in order).

    A history ends `stale` seconds before the asked token began; what had been seen by then is not stale.
    """
    events = EventTable.of(histories, title_ids)
    owner, places = events.owner[asked], events.positions()[asked]
    ends = places
    if stale:
        ends = np.array([_known_tokens(events, token, stale) for token in asked], dtype=np.int64)
    index, starts = _ranges(events.starts[owner], places)
    return Queries(
        truncate_histories(histories, owner, ends),
        events.titles[asked],
        events.first[asked],
        events.titles[index],
        starts,
    )


def _known_tokens(events: EventTable, token: int, stale: int) -> int:
    """How many tokens of the member were over `stale` seconds before the token began."""
    begin = events.starts[events.owner[token]]
    return int(np.searchsorted(events.last[begin:token], events.first[token] - stale, side="right"))


def last_new_title(histories: pa.Table, title_ids: pa.Array) -> Ints:
    """Per member the last token on a title new to it that has a token before it; members without one are left out."""
    events = EventTable.of(histories, title_ids)
    tokens = np.flatnonzero(events.new & (events.positions() > 0))
    owner = events.owner[tokens]
    return tokens[np.append(owner[1:] != owner[:-1], True)] if len(tokens) else tokens


def histories_before(histories: pa.Table, title_ids: pa.Array, tokens: Ints) -> pa.Table:
    """Every history, cut where one of the tokens (at most one per member) begins."""
    events = EventTable.of(histories, title_ids)
    ends = np.diff(events.starts)
    ends[events.owner[tokens]] = events.positions()[tokens]
    return truncate_histories(histories, np.arange(len(histories)), ends)


def truncate_histories(histories: pa.Table, rows: Ints, ends: Ints) -> pa.Table:
    """The first `ends[i]` tokens of history `rows[i]`; `event_time` follows, the hash of the content is dropped."""
    arrays = []
    for field in histories.schema:
        column = histories[field.name].combine_chunks()
        if pa.types.is_list(field.type):
            offsets = np.asarray(column.offsets, dtype=np.int64)
            index, starts = _ranges(offsets[rows], ends)
            arrays.append(pa.ListArray.from_arrays(starts.astype(np.int32), column.values.take(index), type=field.type))
        elif field.name == schema.HISTORY_HASH:
            arrays.append(pa.nulls(len(rows), field.type))
        else:
            arrays.append(column.take(rows))
    return _with_last_time(pa.Table.from_arrays(arrays, schema=histories.schema), ends)


def _with_last_time(histories: pa.Table, ends: Ints) -> pa.Table:
    """With `event_time` as the time of the last token, null where there is none."""
    last = histories["last_time"].combine_chunks()
    index = pa.array(np.cumsum(ends) - 1, mask=ends == 0)
    place = histories.schema.get_field_index(schema.EVENT_TIME)
    return histories.set_column(place, histories.schema.field(place), last.flatten().take(index))


def event_counts(histories: pa.Table, title_ids: pa.Array) -> Ints:
    """(titles,) raw events per title."""
    rows = EventTable.of(histories, title_ids).titles
    weights = np.asarray(histories["events"].combine_chunks().flatten(), dtype=np.float64)
    return np.bincount(rows[rows >= 0], weights[rows >= 0], minlength=len(title_ids)).astype(np.int64)


def _ranges(begins: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """The positions of ranges one after the other, and where each range starts among them."""
    starts = np.append(0, np.cumsum(lengths))
    return np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths), starts


def _seconds(times: pa.ChunkedArray) -> Ints:
    return np.asarray(times.combine_chunks().flatten().cast(pa.int64()), dtype=np.int64) // 1_000_000
