"""The snapshot: interactions and titles as of a moment, every row judged by the quarantine, in DuckDB.

Judging scans the interactions twice (once to count, once to stream the clean events) and keeps
nothing of their size: members get consecutive numbers, `rank`, by shard and id, so that everything
after this works on whole numbers whatever the ids are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from embeddings.histories import quarantine
from embeddings.histories.config import HistoriesConfig
from embeddings.histories.quarantine import RejectionReason
from embeddings.histories.sharding import shard_sql
from stores.lake.contract import Lake, LakeTable, id_type_of
from stores.lake.parquet_files import BrokenFile
from stores.lake.repair import readable, run_with_repair, translate_errors
from stores.lake.scan import ROW_BITS, Source, connect, lake_sources, lost_sql, rows_sql, sql_identifier, sql_literal
from stores.lake.tables import INTERACTIONS, TABLES, TITLES
from stores.publishing.suppression_list import SuppressionList
from stores.releases.dead_letter import rejected_row, rejected_summary, rejected_table
from stores.schema import COUNTRY, DEVICE, DURATION, LOCALE, MEMBER_ID, TITLE_ID, VALUE

if TYPE_CHECKING:
    import duckdb

UNREADABLE_CELL = "not UTF-8, or no time"
_OPTIONAL_COLUMNS = (DURATION, VALUE, DEVICE, COUNTRY, LOCALE)


@dataclass(frozen=True)
class TableInput:
    """One table as it is read: the SQL of its rows, the files its row numbers name, what was lost before.

    `rows` includes those of broken files.
    """

    name: str
    sql: str
    rows: int
    present: tuple[str, ...]
    files: tuple[str, ...]
    broken: tuple[BrokenFile, ...]
    id_types: dict[str, pa.DataType]
    lost: str = ""
    """SQL of the cells that are there and taken as missing (`scan.lost_sql`)."""


def lake_input(lake: Lake, table: LakeTable) -> TableInput:
    """A table of a lake."""
    ids = {column: lake.id_type(column) for column in (MEMBER_ID, TITLE_ID)}
    sources, paths = lake_sources(lake, table), tuple(file.path for file in table.files)
    sql, lost = (made(sources, table.contract, ids) for made in (rows_sql, lost_sql))
    rows = table.rows + sum(file.rows for file in table.broken)
    return TableInput(table.name, sql, rows, table.present, paths, table.broken, ids, lost)


def memory_input(
    connection: "duckdb.DuckDBPyConnection", table_name: str, table: pa.Table, ids: dict[str, pa.DataType]
) -> TableInput:
    """A table in memory, as if it were a lake's only file."""
    contract = TABLES[table_name]
    present = tuple(column.name for column in contract if column.name in table.column_names)
    sound, types = readable(table.select(present))
    connection.register(f"memory_{table_name}", sound.append_column("pos", pa.array(np.arange(table.num_rows))))
    sql = rows_sql([Source(f"memory_{table_name}", "pos", types)], contract, ids)
    return TableInput(table_name, sql, table.num_rows, present, (table_name,), (), ids)


@dataclass(frozen=True)
class SnapshotTime:
    """As of when the lake is read, and the night's own clock, after which nothing can have happened."""

    as_of: datetime
    now: datetime


@dataclass(frozen=True)
class ShardRange:
    """One shard's members, numbered `first` up to but not including `end`, and their accepted rows."""

    number: int
    first: int
    end: int
    rows: int


class Snapshot:
    """Judged interactions and titles; needs the connection that its inputs were made with."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        interactions: TableInput,
        titles: TableInput,
        moment: SnapshotTime,
        config: HistoriesConfig,
        erased: SuppressionList | None = None,
    ) -> None:
        self.connection, self.moment, self.config = connection, moment, config
        self.interactions, self.titles = interactions, titles
        self.reasons = {
            "interactions": quarantine.interaction_reasons(moment.as_of, moment.now, config.earliest),
            "titles": quarantine.title_reasons(),
        }
        self._find_erased(erased)
        self.refused = {"titles": self._judge_titles(), "interactions": self._judge_interactions()}

    # --- judging

    def _find_erased(self, erased: SuppressionList | None) -> None:
        """The ids of the suppression list that the lake still has; looked for only where there is a list."""
        ids = f"SELECT DISTINCT member_id FROM ({self.interactions.sql})"
        where = "false"
        if erased is not None and erased.hashes:
            listed = ", ".join(map(sql_literal, sorted(erased.hashes)))
            where = f"sha256({sql_literal(erased.salt)} || CAST(member_id AS VARCHAR)) IN ({listed})"
        sql = f"SELECT member_id FROM ({ids}) WHERE member_id IS NOT NULL AND {where}"
        self.connection.execute(f"CREATE OR REPLACE TABLE {quarantine.ERASED_MEMBERS} AS {sql}")

    @cached_property
    def _titles_sql(self) -> str:
        copies = "row_number() OVER (PARTITION BY title_id, wrong IS NULL ORDER BY pos) - 1 AS copy"
        return quarantine.with_reason_sql(f"SELECT *, {copies} FROM ({self.titles.sql})", self.reasons["titles"])

    @cached_property
    def _interactions_sql(self) -> str:
        known = ", ".join(map(sql_literal, self.config.actions))
        codes = f"coalesce(list_position([{known}], action), 0) AS action_code, known.title_code"
        joined = f"SELECT r.*, {codes} FROM ({self.interactions.sql}) r LEFT JOIN known ON r.title_id = known.title_id"
        return quarantine.with_reason_sql(joined, self.reasons["interactions"])

    def _judge_titles(self) -> dict[str, int]:
        self.connection.execute(
            "CREATE OR REPLACE TABLE known AS SELECT title_id, pos, "
            "CAST(row_number() OVER (ORDER BY title_id) - 1 AS INTEGER) AS title_code "
            f"FROM ({self._titles_sql}) WHERE reason = 0 ORDER BY title_code"
        )
        counted = f"SELECT reason, count(*) FROM ({self._titles_sql}) GROUP BY reason"
        return self._named(self.titles, self.connection.execute(counted).fetchall())

    def _judge_interactions(self) -> dict[str, int]:
        self.connection.execute(
            "CREATE OR REPLACE TABLE tally AS SELECT CASE WHEN reason = 0 THEN member_id END AS member_id, "
            f"reason, count(*) AS events, max(event_time) AS newest FROM ({self._interactions_sql}) GROUP BY ALL"
        )
        counted = self.connection.execute("SELECT reason, sum(events)::BIGINT FROM tally GROUP BY reason").fetchall()
        return self._named(self.interactions, counted)

    def _named(self, table: TableInput, counted: list[tuple[int, int]]) -> dict[str, int]:
        reasons = self.reasons[table.name]
        counts = {reasons[code - 1].name: count for code, count in sorted(counted) if code}
        for file in table.broken:
            counts[file.reason] = counts.get(file.reason, 0) + file.rows
        return counts

    # --- what was refused

    def rejected_rows(self, table: TableInput) -> pa.Table:
        """Refused rows of a table as dead letters, at most `config.listed_rows` of each reason and a rest in one."""
        judged = self._titles_sql if table is self.titles else self._interactions_sql
        counts = self.refused[table.name]
        found = [rejected_summary(file.path, file.rows, file.column, file.detail, file.reason) for file in table.broken]
        if any(reason not in (*quarantine.UNBUDGETED_REASONS, *quarantine.WHOLE_FILE_REASONS) for reason in counts):
            sql = quarantine.rejected_rows_sql(judged, self.reasons[table.name], self.config.max_listed_rows)
            found += [self.rejected_row(table, *row) for row in self.connection.execute(sql).fetchall()]
        found += [
            rest for reason in self.reasons[table.name] if (rest := self._unlisted_summary(table, reason)) is not None
        ]
        return rejected_table(found)

    def rejected_row(self, table: TableInput, pos: int, column: str, value: str | None, reason: str) -> dict[str, Any]:
        """The dead letter of the row that `pos` names."""
        return rejected_row(table.files[pos >> ROW_BITS], pos & ((1 << ROW_BITS) - 1), column, value, reason)

    def _unlisted_summary(self, table: TableInput, reason: RejectionReason) -> dict[str, Any] | None:
        listed = 0 if reason.name in quarantine.UNBUDGETED_REASONS else self.config.max_listed_rows
        left = self.refused[table.name].get(reason.name, 0) - listed
        return (
            rejected_summary(table.name, left, reason.column, "not listed one by one", reason.name)
            if left > 0
            else None
        )

    def lost_cells(self) -> list[dict[str, Any]]:
        """Cells that are there and taken as missing, by table and column: how many, and the place of the first."""
        found = []
        for table in (self.titles, self.interactions):
            if table.lost:
                sql = f'SELECT "column", count(*), min(pos) FROM ({table.lost}) GROUP BY ALL ORDER BY ALL'
                found += [self._lost(table, *row) for row in self.connection.execute(sql).fetchall()]
        return found

    @staticmethod
    def _lost(table: TableInput, column: str, cells: int, pos: int) -> dict[str, Any]:
        first = f"{table.files[pos >> ROW_BITS]} row {pos & ((1 << ROW_BITS) - 1)}"
        return {"table": table.name, "column": column, "why": UNREADABLE_CELL, "cells": cells, "first": first}

    # --- what was accepted

    @property
    def newest_event_us(self) -> int | None:
        """Time of the newest accepted event, microseconds since 1970."""
        found = self.connection.execute("SELECT max(newest) FROM tally WHERE reason = 0").fetchone()
        return found[0] if found else None

    def title_ids(self) -> pa.Array:
        """Ids of the titles in the order of their codes."""
        table = self.connection.execute("SELECT title_id FROM known ORDER BY title_code").to_arrow_table()
        return table["title_id"].cast(self.titles.id_types[TITLE_ID]).combine_chunks()

    def shard_members(self, shards: int) -> list[ShardRange]:
        """Number the members by shard and id; the shards in order, those without members too."""
        shard = shard_sql(MEMBER_ID, shards) if shards > 1 else "0"
        self.connection.execute(
            "CREATE OR REPLACE TABLE ranked AS SELECT member_id, shard, events, "
            "CAST(row_number() OVER (ORDER BY shard, member_id) - 1 AS INTEGER) AS rank "
            f"FROM (SELECT member_id, events, {shard} AS shard FROM tally WHERE reason = 0) ORDER BY rank"
        )
        sql = "SELECT shard, min(rank), max(rank) + 1, sum(events)::BIGINT FROM ranked GROUP BY shard"
        there = {row[0]: ShardRange(*row) for row in self.connection.execute(sql).fetchall()}
        return [there.get(number, ShardRange(number, 0, 0, 0)) for number in range(shards)]

    def member_ids(self, shard: ShardRange) -> pa.Array:
        """Ids of a shard's members in the order of their ranks."""
        where = f"rank >= {shard.first} AND rank < {shard.end}"
        cursor = self.connection.cursor()  # the events are still streaming on the connection itself
        table = cursor.execute(f"SELECT member_id FROM ranked WHERE {where} ORDER BY rank").to_arrow_table()
        return table["member_id"].cast(self.interactions.id_types[MEMBER_ID]).combine_chunks()

    def events(self, batch_rows: int) -> pa.RecordBatchReader:
        """All accepted events (exact duplicates still in) in the lake's order.

        Columns: `member` (rank), `event_time`, `pos`, `title_code`, `action_code`, those optional columns
        that the lake has, and `content`, a hash of everything but member and time.
        """
        optional = [column for column in _OPTIONAL_COLUMNS if column in self.interactions.present]
        kept = [f"e.{sql_identifier(column)}" for column in optional]
        content = ", ".join(["e.title_code", "e.action_code", *(f"e.{sql_identifier(column)}" for column in optional)])
        action = "CAST(e.action_code AS TINYINT) AS action_code"
        listed = ", ".join(["e.event_time", "e.pos", "e.title_code", action, *kept])
        return self.connection.execute(
            f"SELECT m.rank AS member, {listed}, hash({content}) AS content "
            f"FROM ({self._interactions_sql}) e JOIN ranked m ON e.member_id = m.member_id WHERE e.reason = 0"
        ).to_arrow_reader(batch_rows)

    def catalogue(self) -> pa.Table:
        """Accepted titles by id with the contract's columns; `launch_time` in microseconds since 1970."""
        sql = f"SELECT t.* FROM ({self.titles.sql}) t JOIN known ON t.pos = known.pos ORDER BY known.title_code"
        return self.connection.execute(sql).to_arrow_table().drop_columns(["pos", "wrong", "wrong_value"])


def count_members(connection: "duckdb.DuckDBPyConnection", lake: Lake) -> int:
    """Different member ids in a lake, bad rows included."""
    found = connection.execute(
        f"SELECT count(DISTINCT member_id) FROM ({lake_input(lake, lake.interactions).sql})"
    ).fetchone()
    return int(found[0]) if found else 0


T = TypeVar("T")
_READ = (INTERACTIONS, TITLES)


def with_snapshot(
    lake: Lake,
    moment: SnapshotTime,
    config: HistoriesConfig,
    erased: SuppressionList | None,
    work: Callable[[Snapshot], T],
) -> T:
    """`work` on the judged snapshot of a lake, without the members that were erased.

    A column that only `work` reads may hold what DuckDB stops at; then the files are mended and `work` begins anew:
    what it wrote is written again. Raises StoreError where DuckDB cannot go on (memory, disk, the store).
    """
    with translate_errors(lake), connect(lake, config.scan) as connection:
        return run_with_repair(
            connection, lake, _READ, lambda sound: work(_lake_snapshot(connection, sound, moment, config, erased))
        )


@contextmanager
def open_snapshot(
    lake: Lake, moment: SnapshotTime, config: HistoriesConfig, erased: SuppressionList | None = None
) -> Iterator[Snapshot]:
    """The same for a block of code: what stops DuckDB in the block itself is a StoreError."""
    with translate_errors(lake), connect(lake, config.scan) as connection:
        yield run_with_repair(
            connection, lake, _READ, lambda sound: _lake_snapshot(connection, sound, moment, config, erased)
        )


def _lake_snapshot(
    connection: "duckdb.DuckDBPyConnection",
    lake: Lake,
    moment: SnapshotTime,
    config: HistoriesConfig,
    erased: SuppressionList | None,
) -> Snapshot:
    interactions, titles = lake_input(lake, lake.interactions), lake_input(lake, lake.titles)
    return Snapshot(connection, interactions, titles, moment, config, erased)


@contextmanager
def memory_snapshot(
    interactions: pa.Table, titles: pa.Table | None, moment: SnapshotTime, config: HistoriesConfig
) -> Iterator[Snapshot]:
    """The judged snapshot of tables in memory; without `titles` every title that occurs is one."""
    if titles is None:
        titles = pa.table({TITLE_ID: interactions[TITLE_ID].unique()})
    ids = {
        MEMBER_ID: id_type_of([(interactions.schema.field(MEMBER_ID).type, 1)]),
        TITLE_ID: id_type_of([(titles.schema.field(TITLE_ID).type, 1)]),
    }
    with connect(None, config.scan) as connection:
        events = memory_input(connection, INTERACTIONS, interactions, ids)
        yield Snapshot(connection, events, memory_input(connection, TITLES, titles, ids), moment, config)
