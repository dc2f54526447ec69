"""Build the histories of each shard, block by block, from the accepted events of a snapshot."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.events import EventProfile, Events, Ints, RawEvents
from embeddings.histories.history_table import TitleKeys, history_table
from embeddings.histories.sessions import merge_events
from embeddings.histories.snapshot import ShardRange, Snapshot
from stores.runtime import map_ordered
from stores.schema import TITLE_ID

MICROS_PER_MINUTE = 60_000_000


class HistoryStats:
    """What is learnt of the events while they pass."""

    def __init__(self, titles: int, config: HistoriesConfig, newest: int) -> None:
        self.profile = EventProfile(newest, config)
        self.actions = np.zeros(len(config.actions) + 1, np.int64)
        self.plays = np.zeros(titles, np.int64)
        self.watch = np.array([False, *(action in config.watch_actions for action in config.actions)])
        self.repeats: list[int] = []
        self.listed = config.max_listed_rows
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


def build_shards(
    snapshot: Snapshot, shards: list[ShardRange], tally: HistoryStats
) -> Iterator[tuple[ShardRange, pa.Table]]:
    """The histories of each shard, in the order of shards; counts into `tally` as it goes.

    The shards of a block are made by several threads (sorting and hashing let go of the interpreter).
    """
    titles, config = TitleKeys(snapshot.title_ids()), snapshot.config
    threads = config.scan.threads or os.cpu_count() or 1
    for members, block in read_chunks(snapshot, shards):
        arrived = RawEvents.from_batch(block)
        del block
        rows = arrived.split_by_member(list(accumulate((shard.end for shard in members), max)))
        parts = zip(rows, map(snapshot.member_ids, members), strict=True)
        for shard, made in zip(
            members, map_ordered(_ShardBuilder(arrived, titles, config), parts, threads), strict=True
        ):
            tally.add(made.events, made.repeats)
            tally.add_histories(made.histories, made.dropped)
            yield shard, made.histories


@dataclass(frozen=True)
class _BuiltShard:
    """A shard's events, the `pos` of repeats, its histories, and how many tokens were too old to be kept."""

    events: Events
    repeats: Ints
    histories: pa.Table
    dropped: int


@dataclass(frozen=True)
class _ShardBuilder:
    """Makes shards of what arrived."""

    arrived: RawEvents
    titles: TitleKeys
    config: HistoriesConfig

    def __call__(self, part: tuple[Ints, pa.Array]) -> _BuiltShard:
        """The shard of some rows and members."""
        rows, member_ids = part
        events, repeats = self.arrived.sorted(rows)
        merged = merge_events(events, round(self.config.merge_gap_minutes * MICROS_PER_MINUTE))
        kept = merged.keep_last(self.config.max_tokens)
        return _BuiltShard(events, repeats, history_table(kept, member_ids, self.titles), len(merged) - len(kept))


ARROW_BATCH_ROWS = 122_880  # one row group of DuckDB's own; smaller batches cost more than they save


def plan_chunks(shards: list[ShardRange], most_rows: int) -> list[list[ShardRange]]:
    """Consecutive shards put together up to `most_rows` rows; a shard that is larger is a block of its own."""
    blocks: list[list[ShardRange]] = []
    room = 0
    for shard in shards:
        if not blocks or (shard.rows and shard.rows > room):
            blocks.append([])
            room = most_rows
        blocks[-1].append(shard)
        room -= shard.rows
    return blocks


def read_chunks(snapshot: Snapshot, shards: list[ShardRange]) -> Iterator[tuple[list[ShardRange], pa.Table]]:
    """Each block's shards with all accepted events of their members, columns of `Snapshot.events`."""
    blocks = plan_chunks(shards, snapshot.config.block_rows)
    reader = snapshot.events(ARROW_BATCH_ROWS)
    if len(blocks) == 1:
        yield blocks[0], reader.read_all()
        return
    with tempfile.TemporaryDirectory(prefix="samespace-", dir=snapshot.config.scan.temp_directory or None) as folder:
        paths = [Path(folder) / f"{number}.arrow" for number in range(len(blocks))]
        _partition_events(reader, [_first_rank(block) for block in blocks], paths)
        for block, path in zip(blocks, paths, strict=True):
            with pa.OSFile(str(path)) as source:
                yield block, pa.ipc.open_stream(source).read_all()
            path.unlink()


def _first_rank(block: list[ShardRange]) -> int:
    return max((shard.first for shard in block[:1]), default=0)


def _partition_events(reader: pa.RecordBatchReader, first_ranks: list[int], paths: list[Path]) -> None:
    """Append every event to its block's file, in the order of arrival."""
    with ExitStack() as open_files:
        files = [open_files.enter_context(pa.OSFile(str(path), "wb")) for path in paths]
        writers = [open_files.enter_context(pa.ipc.new_stream(file, reader.schema)) for file in files]
        for batch in reader:
            block = np.searchsorted(first_ranks, batch["member"].to_numpy(), side="right") - 1
            order = np.argsort(block.astype(np.int16), kind="stable")
            ends = np.cumsum(np.bincount(block, minlength=len(paths)))
            sorted_batch = batch.take(pa.array(order))
            for writer, begin, end in zip(writers, np.append(0, ends), ends, strict=False):
                if end > begin:
                    writer.write_batch(sorted_batch.slice(begin, end - begin))
