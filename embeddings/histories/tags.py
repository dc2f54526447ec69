"""Read the lake's tags, and add them to the texts of titles from the moment on at which each was given.

The column `timed_text` of a catalogue has the texts of each title one by one, `list<struct<at, member_id, text>>`: `at`
in microseconds since 1970, null for what `titles/` itself says, which has no time. The column `text` is made of it, so
that an evaluation or a training makes it anew of what was known by its own moment.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.quarantine import (
    AFTER_AS_OF,
    ERASED,
    FUTURE,
    UNBUDGETED_REASONS,
    WRONG_TYPE,
    RejectionReason,
    micros,
    rejected_rows_sql,
    with_reason_sql,
)
from embeddings.histories.snapshot import Snapshot, TableInput, lake_input
from stores.lake.contract import Lake
from stores.lake.repair import run_with_repair
from stores.lake.scan import sql_literal
from stores.lake.tables import TAGS
from stores.publishing.suppression_list import SuppressionList
from stores.releases.dead_letter import rejected_summary, rejected_table
from stores.schema import MEMBER_ID, TAG, TAGGED_AT, TIMED_TEXT, TITLE_ID

MAX_TAGS_PER_TITLE = 32
"""A title's frequent tags come first; the long tail is spelling."""
Ints = npt.NDArray[np.int64]


def attach_tags(catalogue: pa.Table, tags: pa.Table) -> pa.Table:
    """A catalogue with the column `timed_text`, and `text` made of all of it.

    `tags` has the columns `title_id`, `member_id`, `tagged_at` (int64 microseconds) and `tag`; each title of it is in
    the catalogue, whose `text` is what `titles/` says.
    """
    titles = pc.index_in(tags[TITLE_ID], value_set=catalogue[TITLE_ID].combine_chunks()).combine_chunks()
    there = catalogue["text"].is_valid()
    stated = pa.table({"title": np.flatnonzero(there), "text": catalogue["text"].filter(there)})
    member = tags.schema.field(MEMBER_ID).type
    parts = pa.table(
        {
            "title": pa.concat_arrays([stated["title"].combine_chunks().cast(pa.int64()), titles.cast(pa.int64())]),
            "at": _joined(pa.nulls(len(stated), pa.int64()), tags["tagged_at"]),
            MEMBER_ID: _joined(pa.nulls(len(stated), member), tags[MEMBER_ID]),
            "text": _joined(stated["text"].cast(pa.string()), tags["tag"].cast(pa.string())),
        }
    )
    order = np.lexsort((_moments(parts), np.asarray(parts["title"], np.int64)))
    return _with_parts(catalogue, parts.take(pa.array(order)))


def text_as_of(
    catalogue: pa.Table, moment: int | None, member_ids: pa.Array | None = None, until: Ints | None = None
) -> pa.Table:
    """A catalogue whose texts are those known before a moment, in seconds since 1970; None for every one of them.

    What a member of `member_ids` gave is left out from the second `until` of that member on: a history that is cut
    there has not seen it. The same catalogue where it has no `timed_text`.
    """
    if TIMED_TEXT not in catalogue.column_names:
        return catalogue
    parts = _parts(catalogue)
    at = _moments(parts)
    limits = np.full(len(parts), np.iinfo(np.int64).max)
    if moment is not None:
        limits[:] = moment * 1_000_000
    if member_ids is not None and until is not None and len(member_ids):
        place = pc.index_in(parts[MEMBER_ID].cast(member_ids.type), value_set=member_ids, skip_nulls=True)
        known = np.asarray(pc.fill_null(place, -1).combine_chunks(), np.int64)
        limits = np.where(known >= 0, np.minimum(limits, until[known] * 1_000_000), limits)
    return _with_parts(catalogue, parts.filter(pa.array(at < limits)))


def _moments(parts: pa.Table) -> Ints:
    """When each text was given; long ago where that has no time."""
    return np.asarray(pc.fill_null(parts["at"], np.iinfo(np.int64).min), np.int64)


def _joined(first: pa.Array | pa.ChunkedArray, second: pa.Array | pa.ChunkedArray) -> pa.Array:
    flat = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in (first, second)]
    return pa.concat_arrays([part.cast(flat[1].type) for part in flat])


def _parts(catalogue: pa.Table) -> pa.Table:
    """Every text of every title: the row of its title, `at`, `member_id`, `text`, in that order."""
    lists = catalogue[TIMED_TEXT].combine_chunks()
    flat = lists.flatten()
    fields = {name: flat.field(name) for name in ("at", MEMBER_ID, "text")}
    return pa.table({"title": pc.list_parent_indices(lists).cast(pa.int64()), **fields})


def _with_parts(catalogue: pa.Table, parts: pa.Table) -> pa.Table:
    """The catalogue with other timed texts, which are in the order of titles and times, and the text made of them."""
    counts = np.bincount(np.asarray(parts["title"], np.int64), minlength=len(catalogue))
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    names = ("at", MEMBER_ID, "text")
    cells = pa.StructArray.from_arrays([parts[name].combine_chunks() for name in names], list(names))
    lists = pa.ListArray.from_arrays(offsets, cells)
    if TIMED_TEXT in catalogue.column_names:
        catalogue = catalogue.drop_columns([TIMED_TEXT])
    place = catalogue.schema.get_field_index("text")
    text = _texts(parts, len(catalogue))
    return catalogue.set_column(place, catalogue.schema.field(place), text).append_column(TIMED_TEXT, lists)


def _texts(parts: pa.Table, titles: int) -> pa.Array:
    """The text of each title: what `titles/` says, then its most frequent tags, lower case, null where it has none."""
    stated = parts.filter(pc.is_null(parts["at"])).select(["title", "text"])
    said = parts.filter(pc.is_valid(parts["at"]))
    words = pc.utf8_trim_whitespace(pc.utf8_lower(said["text"]))
    tags = pa.table({"title": said["title"], "text": words}).filter(pc.greater(pc.utf8_length(words), 0))
    counted = tags.group_by(["title", "text"]).aggregate([([], "count_all")])
    counted = counted.sort_by([("title", "ascending"), ("count_all", "descending"), ("text", "ascending")])
    owner = np.asarray(counted["title"], np.int64)
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    frequent = counted.filter(pa.array(place < MAX_TAGS_PER_TITLE)).select(["title", "text"])
    every = pa.concat_tables([stated, frequent]).combine_chunks()
    order = np.argsort(np.asarray(every["title"], np.int64), kind="stable")
    owner = np.asarray(every["title"], np.int64)[order]
    counts = np.bincount(owner, minlength=titles)
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, every["text"].combine_chunks().take(pa.array(order)))
    return pc.if_else(pa.array(counts > 0), pc.binary_join(lists, ", "), pa.scalar(None, pa.string()))


@dataclass(frozen=True)
class Tags:
    """Accepted tags (`title_id`, `member_id`, `tagged_at` in microseconds, `tag`), and the refused rows."""

    table: pa.Table
    letters: pa.Table
    refused: dict[str, int]
    rows: int

    def onto(self, catalogue: pa.Table) -> pa.Table:
        """A catalogue with these tags in its texts, and one by one in its column `timed_text`."""
        return attach_tags(catalogue, self.table)


def refusal_reasons(as_of: datetime, now: datetime, erased: SuppressionList | None) -> tuple[RejectionReason, ...]:
    """Reasons for rows of tags that also have `title_code` (NULL = not in titles)."""
    gone = "false"
    if erased is not None and erased.hashes:
        listed = ", ".join(map(sql_literal, sorted(erased.hashes)))
        gone = f"coalesce(sha256({sql_literal(erased.salt)} || CAST({MEMBER_ID} AS VARCHAR)) IN ({listed}), false)"
    seen, clock = micros(as_of), micros(now)
    written = f"coalesce(TRY(CAST(make_timestamp({TAGGED_AT}) AS VARCHAR)), {TAGGED_AT} || ' microseconds since 1970')"
    nulls = (RejectionReason(f"{name} is null", name, f"{name} IS NULL", "NULL") for name in (TITLE_ID, TAGGED_AT, TAG))
    return (
        RejectionReason(ERASED, MEMBER_ID, gone, "NULL"),
        RejectionReason(FUTURE, TAGGED_AT, f"{TAGGED_AT} > {max(seen, clock)}", written),
        RejectionReason(AFTER_AS_OF, TAGGED_AT, f"{TAGGED_AT} > {seen}", written),
        RejectionReason(WRONG_TYPE, "", "wrong IS NOT NULL", "wrong_value"),
        *nulls,
        RejectionReason("unknown title", TITLE_ID, "title_code IS NULL", f"CAST({TITLE_ID} AS VARCHAR)"),
    )


def read_tags(snapshot: Snapshot, lake: Lake, erased: SuppressionList | None) -> Tags | None:
    """The tags of a lake up to a snapshot's moment; None where the lake has none.

    The tags of erased members are left out. Costs the memory of all accepted tags. Raises as `run_with_repair`.
    """
    if TAGS not in lake.tables:
        return None
    return run_with_repair(snapshot.connection, lake, (TAGS,), lambda sound: _read(snapshot, sound, erased))


def _read(snapshot: Snapshot, lake: Lake, erased: SuppressionList | None) -> Tags:
    table, moment = lake_input(lake, lake.tables[TAGS]), snapshot.moment
    asked = refusal_reasons(moment.as_of, moment.now, erased)
    rows = f"SELECT t.*, known.title_code FROM ({table.sql}) t LEFT JOIN known ON t.{TITLE_ID} = known.{TITLE_ID}"
    judged, connection = with_reason_sql(rows, asked), snapshot.connection
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
    snapshot: Snapshot, table: TableInput, judged: str, asked: tuple[RejectionReason, ...], refused: dict[str, int]
) -> pa.Table:
    listed = snapshot.config.max_listed_rows
    found = [rejected_summary(file.path, file.rows, file.column, file.detail, file.reason) for file in table.broken]
    sql = rejected_rows_sql(judged, asked, listed)
    found += [snapshot.rejected_row(table, *row) for row in snapshot.connection.execute(sql).fetchall()]
    for reason in asked:
        left = refused.get(reason.name, 0) - (0 if reason.name in UNBUDGETED_REASONS else listed)
        if left > 0:
            found.append(rejected_summary(table.name, left, reason.column, "not listed one by one", reason.name))
    return rejected_table(found)
