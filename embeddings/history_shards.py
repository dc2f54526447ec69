"""The histories of each shard, made block by block from the accepted events of a snapshot."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.blocks import read_blocks
from embeddings.event_profile import EventProfile
from embeddings.events import Arrivals, Events, Ints
from embeddings.histories_config import HistoriesConfig
from embeddings.history_table import TitleKeys, history_table
from embeddings.snapshot import Shard, Snapshot
from embeddings.tokens import merge
from stores.ahead import in_order
from stores.columns import TITLE_ID

MICROS_PER_MINUTE = 60_000_000


class Tally:
    """What is learnt of the events while they pass."""

    def __init__(self, titles: int, config: HistoriesConfig, newest: int) -> None:
        self.profile = EventProfile(newest, config)
        self.actions = np.zeros(len(config.actions) + 1, np.int64)
        self.plays = np.zeros(titles, np.int64)
        self.watch = np.array([False, *(action in config.watch_actions for action in config.actions)])
        self.repeats: list[int] = []
        self.listed = config.listed_rows
        self.refused = self.events = self.tokens = self.dropped = self.members = 0

    def add(self, events: Events, repeats: Ints) -> None:
        """Count the events of a shard, and note the `pos` of the repeats that were dropped from it."""
        self.actions += np.bincount(events.action, minlength=len(self.actions))
        self.plays += np.bincount(events.title[self.watch[events.action]], minlength=len(self.plays))
        self.profile.add(events)
        self.events += len(events)
        self.refused += len(repeats)
        self.repeats = sorted([*self.repeats, *repeats.tolist()])[: self.listed]

    def add_histories(self, histories: pa.Table, dropped: int) -> None:
        """Count a shard's members, their tokens, and the tokens that were too old to be kept."""
        self.members += histories.num_rows
        self.tokens += pc.sum(pc.list_value_length(histories[TITLE_ID])).as_py() or 0
        self.dropped += dropped


def shard_histories(snapshot: Snapshot, shards: list[Shard], tally: Tally) -> Iterator[tuple[Shard, pa.Table]]:
    """The histories of each shard, in the order of shards; counts into `tally` as it goes.

    The shards of a block are made by several threads (sorting and hashing let go of the interpreter).
    """
    titles, config = TitleKeys(snapshot.title_ids()), snapshot.config
    threads = config.scan.threads or os.cpu_count() or 1
    for members, block in read_blocks(snapshot, shards):
        arrived = Arrivals.of(block)
        del block
        rows = arrived.apart(list(accumulate((shard.end for shard in members), max)))
        parts = zip(rows, map(snapshot.member_ids, members), strict=True)
        for shard, made in zip(members, in_order(_Maker(arrived, titles, config), parts, threads), strict=True):
            tally.add(made.events, made.repeats)
            tally.add_histories(made.histories, made.dropped)
            yield shard, made.histories


@dataclass(frozen=True)
class _Made:
    """A shard's events, the `pos` of repeats, its histories, and how many tokens were too old to be kept."""

    events: Events
    repeats: Ints
    histories: pa.Table
    dropped: int


@dataclass(frozen=True)
class _Maker:
    """Makes shards of what arrived."""

    arrived: Arrivals
    titles: TitleKeys
    config: HistoriesConfig

    def __call__(self, part: tuple[Ints, pa.Array]) -> _Made:
        """The shard of some rows and members."""
        rows, member_ids = part
        events, repeats = self.arrived.sorted(rows)
        merged = merge(events, round(self.config.merge_gap_minutes * MICROS_PER_MINUTE))
        kept = merged.latest(self.config.max_tokens)
        return _Made(events, repeats, history_table(kept, member_ids, self.titles), len(merged) - len(kept))
