"""The lake's tags as of a snapshot: who called which title what, when; bad rows judged like those of other tables."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from embeddings.quarantine import (
    AFTER,
    ERASED,
    FUTURE,
    UNCOUNTED,
    WRONG_TYPE,
    Reason,
    judged_sql,
    letters_sql,
    micros,
)
from embeddings.snapshot import Input, Snapshot, lake_input
from embeddings.timed_text import with_tags
from stores.columns import MEMBER_ID, TAG, TAGGED_AT, TITLE_ID
from stores.dead_letter import letters_table, many
from stores.lake.contract import Lake
from stores.lake.mending import attempt
from stores.lake.scan import text
from stores.lake.tables import TAGS
from stores.suppression import Suppression


@dataclass(frozen=True)
class Tags:
    """Accepted tags (`title_id`, `member_id`, `tagged_at` in microseconds, `tag`), and the refused rows."""

    table: pa.Table
    letters: pa.Table
    refused: dict[str, int]
    rows: int

    def onto(self, catalogue: pa.Table) -> pa.Table:
        """A catalogue with these tags in its texts, and one by one in its column `timed_text`."""
        return with_tags(catalogue, self.table)


def reasons(as_of: datetime, now: datetime, erased: Suppression | None) -> tuple[Reason, ...]:
    """Reasons for rows of tags that also have `title_code` (NULL = not in titles)."""
    gone = "false"
    if erased is not None and erased.hashes:
        listed = ", ".join(map(text, sorted(erased.hashes)))
        gone = f"coalesce(sha256({text(erased.salt)} || CAST({MEMBER_ID} AS VARCHAR)) IN ({listed}), false)"
    seen, clock = micros(as_of), micros(now)
    written = f"coalesce(TRY(CAST(make_timestamp({TAGGED_AT}) AS VARCHAR)), {TAGGED_AT} || ' microseconds since 1970')"
    nulls = (Reason(f"{name} is null", name, f"{name} IS NULL", "NULL") for name in (TITLE_ID, TAGGED_AT, TAG))
    return (
        Reason(ERASED, MEMBER_ID, gone, "NULL"),
        Reason(FUTURE, TAGGED_AT, f"{TAGGED_AT} > {max(seen, clock)}", written),
        Reason(AFTER, TAGGED_AT, f"{TAGGED_AT} > {seen}", written),
        Reason(WRONG_TYPE, "", "wrong IS NOT NULL", "wrong_value"),
        *nulls,
        Reason("unknown title", TITLE_ID, "title_code IS NULL", f"CAST({TITLE_ID} AS VARCHAR)"),
    )


def read_tags(snapshot: Snapshot, lake: Lake, erased: Suppression | None) -> Tags | None:
    """The tags of a lake up to a snapshot's moment; None where the lake has none.

    The tags of erased members are left out. Costs the memory of all accepted tags. Raises as `attempt`.
    """
    if TAGS not in lake.tables:
        return None
    return attempt(snapshot.connection, lake, (TAGS,), lambda sound: _read(snapshot, sound, erased))


def _read(snapshot: Snapshot, lake: Lake, erased: Suppression | None) -> Tags:
    table, moment = lake_input(lake, lake.tables[TAGS]), snapshot.moment
    asked = reasons(moment.as_of, moment.now, erased)
    rows = f"SELECT t.*, known.title_code FROM ({table.sql}) t LEFT JOIN known ON t.{TITLE_ID} = known.{TITLE_ID}"
    judged, connection = judged_sql(rows, asked), snapshot.connection
    counted = connection.execute(f"SELECT reason, count(*) FROM ({judged}) GROUP BY ALL ORDER BY ALL").fetchall()
    refused = {asked[code - 1].name: count for code, count in counted if code}
    for file in table.broken:
        refused[file.reason] = refused.get(file.reason, 0) + file.rows
    columns = f"{TITLE_ID}, {MEMBER_ID}, {TAGGED_AT}, {TAG}"
    found = connection.execute(f"SELECT {columns} FROM ({judged}) WHERE reason = 0 ORDER BY pos").to_arrow_table()
    kinds = zip((TITLE_ID, MEMBER_ID), (table.id_types[TITLE_ID], table.id_types[MEMBER_ID]), strict=True)
    for name, kind in kinds:
        found = found.set_column(found.schema.get_field_index(name), name, found[name].cast(kind))
    return Tags(found, _letters(snapshot, table, judged, asked, refused), refused, table.rows)


def _letters(
    snapshot: Snapshot, table: Input, judged: str, asked: tuple[Reason, ...], refused: dict[str, int]
) -> pa.Table:
    listed = snapshot.config.listed_rows
    found = [many(file.path, file.rows, file.column, file.detail, file.reason) for file in table.broken]
    sql = letters_sql(judged, asked, listed)
    found += [snapshot.letter_at(table, *row) for row in snapshot.connection.execute(sql).fetchall()]
    for reason in asked:
        left = refused.get(reason.name, 0) - (0 if reason.name in UNCOUNTED else listed)
        if left > 0:
            found.append(many(table.name, left, reason.column, "not listed one by one", reason.name))
    return letters_table(found)
