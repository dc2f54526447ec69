"""The catalogue as it was at a moment: plays and ages from what had happened by then, and from nothing later.

A snapshot's catalogue counts the plays and days up to the snapshot. An evaluation asks about events before that, whose
own plays, and the time that has passed since, would be in it. Names, genres, languages and content vectors have no
history in a lake: they are those of the snapshot. Tags have one (`embeddings.histories.tags`).
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.evaluation_queries import EventTable
from embeddings.histories.config import HistoriesConfig
from embeddings.histories.tags import text_as_of
from stores import schema

Ints = npt.NDArray[np.int64]
_DAY = 86_400


def watch_bits(config: HistoriesConfig) -> int:
    """The bits of a token's `actions` that are plays of its title."""
    return sum(1 << code for code, action in enumerate(config.actions) if action in config.watch_actions)


WATCH_ACTIONS = watch_bits(HistoriesConfig())
"""Those of the default actions."""


def plays_of_tokens(actions: Ints, events: Ints, watch: int) -> Ints:
    """(tokens,) plays of tokens with the given bits of actions and numbers of events; `watch` are the bits of plays.

    Events of one token are counted together whatever they were: each other action that the token has is taken to be
    one of them, the rest are plays.
    """
    others = np.bitwise_count(actions & ~watch).astype(np.int64)
    return np.where(actions & watch, np.maximum(events - others, 1), 0)


def plays_of(histories: pa.Table, title_ids: pa.Array, watch: int = WATCH_ACTIONS) -> Ints:
    """(titles,) plays in some histories."""
    titles, actions, events = (_flat(histories, name) for name in (schema.TITLE_ID, "actions", "events"))
    return with_play_counts(titles, np.asarray(actions, np.int64), np.asarray(events, np.int64), title_ids, watch)


def with_play_counts(
    titles: pa.Array, actions: Ints, events: Ints, title_ids: pa.Array, watch: int = WATCH_ACTIONS
) -> Ints:
    """(titles,) plays of `title_ids` in tokens on `titles`."""
    rows = np.asarray(pc.fill_null(pc.index_in(titles, value_set=title_ids), -1), np.int64)
    plays, known = plays_of_tokens(actions, events, watch), rows >= 0
    return np.bincount(rows[known], plays[known], minlength=len(title_ids)).astype(np.int64)


def catalogue_as_of(catalogue: pa.Table, plays: Ints, moment: int) -> pa.Table:
    """A catalogue with other plays, and its ages in whole days and its texts at a moment in seconds since 1970.

    Ages are of `launch_time`: NaN where that is unknown, negative before it.
    """
    ages = np.floor((moment - launch_times(catalogue)) / _DAY)
    for name, values in (("plays", pa.array(plays)), ("age_days", pa.array(ages))):
        catalogue = catalogue.set_column(catalogue.schema.get_field_index(name), name, values)
    return text_as_of(catalogue, moment)


def drop_unseen_titles(catalogue: pa.Table, histories: pa.Table, title_ids: pa.Array, asked: Ints) -> pa.Table:
    """A catalogue without the tags that members gave from their asked tokens (at most one per member) on.

    A history that is cut where its asked token begins knows of no later tag of that member either.
    """
    events = EventTable.of(histories, title_ids)
    members = histories[schema.MEMBER_ID].combine_chunks().take(pa.array(events.owner[asked]))
    return text_as_of(catalogue, None, members, events.first[asked])


def launch_times(catalogue: pa.Table) -> npt.NDArray[np.float64]:
    """(titles,) seconds since 1970 of their launches; NaN where that is unknown."""
    times = catalogue["launch_time"].combine_chunks()
    seconds = np.asarray(times.cast(pa.int64()).fill_null(0), np.float64) / 1e6
    return np.where(np.asarray(times.is_valid()), seconds, np.nan)


def _flat(histories: pa.Table, name: str) -> pa.Array:
    return histories[name].combine_chunks().flatten()
