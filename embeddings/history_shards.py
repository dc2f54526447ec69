"""The histories of each shard, made block by block from the accepted events of a snapshot."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.blocks import read_blocks
from embeddings.event_profile import EventProfile
from embeddings.events import Events, Ints, sorted_events
from embeddings.histories_config import HistoriesConfig
from embeddings.history_table import TitleKeys, history_table
from embeddings.snapshot import Shard, Snapshot
from embeddings.tokens import merge
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
        """Count the events of a block, and note the `pos` of the repeats that were dropped from it."""
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

    The shards of a block are made by several threads (NumPy and hashing let go of the interpreter).
    """
    titles, config = TitleKeys(snapshot.title_ids()), snapshot.config
    with ThreadPoolExecutor(config.scan.threads or os.cpu_count()) as pool:
        for members, block in read_blocks(snapshot, shards):
            events, repeats = sorted_events(block)
            del block
            tally.add(events, repeats)
            bounds = [np.searchsorted(events.member, [shard.first, shard.end]) for shard in members]
            parts = [events[begin:end] for begin, end in bounds]
            ids = [snapshot.member_ids(shard) for shard in members]
            made = pool.map(lambda part, named: _histories(part, named, titles, config), parts, ids)
            for shard, (table, dropped) in zip(members, made, strict=True):
                tally.add_histories(table, dropped)
                yield shard, table


def _histories(
    events: Events, member_ids: pa.Array, titles: TitleKeys, config: HistoriesConfig
) -> tuple[pa.Table, int]:
    """The histories of one shard's members, and how many tokens were too old to be kept."""
    merged = merge(events, round(config.merge_gap_minutes * MICROS_PER_MINUTE))
    kept = merged.latest(config.max_tokens)
    return history_table(kept, member_ids, titles), len(merged) - len(kept)
