"""Blocks: the stream of events cut into runs of shards that fit in memory, with every member whole.

A lake whose events fit into one block is never written anywhere; a larger one is laid out once, block by
block, in the temporary folder. Memory is that of one block whatever the size of the lake.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings.snapshot import Shard, Snapshot

BATCH_ROWS = 122_880  # one row group of DuckDB's own; smaller batches cost more than they save


def blocks_of(shards: list[Shard], most_rows: int) -> list[list[Shard]]:
    """Consecutive shards put together up to `most_rows` rows; a shard that is larger is a block of its own."""
    blocks: list[list[Shard]] = []
    room = 0
    for shard in shards:
        if not blocks or (shard.rows and shard.rows > room):
            blocks.append([])
            room = most_rows
        blocks[-1].append(shard)
        room -= shard.rows
    return blocks


def read_blocks(snapshot: Snapshot, shards: list[Shard]) -> Iterator[tuple[list[Shard], pa.Table]]:
    """Each block's shards with all accepted events of their members, columns of `Snapshot.events`."""
    blocks = blocks_of(shards, snapshot.config.block_rows)
    reader = snapshot.events(BATCH_ROWS)
    if len(blocks) == 1:
        yield blocks[0], reader.read_all()
        return
    with tempfile.TemporaryDirectory(prefix="samespace-", dir=snapshot.config.scan.temp_directory or None) as folder:
        paths = [Path(folder) / f"{number}.arrow" for number in range(len(blocks))]
        _lay_out(reader, [_first_rank(block) for block in blocks], paths)
        for block, path in zip(blocks, paths, strict=True):
            with pa.OSFile(str(path)) as source:
                yield block, pa.ipc.open_stream(source).read_all()
            path.unlink()


def _first_rank(block: list[Shard]) -> int:
    return max((shard.first for shard in block[:1]), default=0)


def _lay_out(reader: pa.RecordBatchReader, first_ranks: list[int], paths: list[Path]) -> None:
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
