"""`import movielens`: an unpacked MovieLens folder becomes a lake.

A rating is an interaction with action "rate" and the stars as its value. Rows keep the order of the
file, which is what breaks ties between equal times. A tag keeps the moment at which it was given: it is part of a
title's text from then on. A time that cannot be read becomes null, so that a night refuses its row by name.
"""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stores import schema
from stores.errors import ContractError
from stores.files.filesystem import Storage
from stores.lake import movielens_layouts as layouts
from stores.lake.movielens_layouts import parse_times
from stores.lake.writer import create_lake, write_part

WITHOUT_TIME = "without time"
_YEAR = re.compile(r"\(([12]\d{3})(?:\s*[-\u2013]\s*(?:\d{4})?)?\)\s*$")


def import_movielens(source: Path | str, out: str) -> dict[str, int]:
    """Write the MovieLens data set unpacked in `source` as a lake to `out` (a folder or `s3://bucket/prefix`).

    Reads ml-latest*, ml-20m, ml-25m, ml-32m, ml-10M, ml-1m and ml-100k; links and the tag genome are left
    out, since the contract has no column for them. Ratings are streamed, so memory does not grow with
    their number. `titles/` is written last: a lake without it is one whose import did not finish.

    Returns how many `interactions`, `titles` and `members` there are, and where there are any, `tags` and rows
    `without time`; `members/` itself is written for the editions with a users file only. Raises NotFoundError or
    UsageError for a source or a destination that cannot be used, ContractError for a file that cannot be read.
    """
    folder = Path(source)
    layout = layouts.detect(folder)
    titles, tags, users = (
        layouts.read_movies(folder, layout),
        layouts.read_tags(folder, layout),
        layouts.read_users(folder, layout),
    )
    storage = create_lake(out)
    counts, first_ratings, members = _write_interactions(storage, folder, layout)
    if users is not None:
        write_part(storage, "members", 0, users)
        members.update(users[schema.MEMBER_ID].to_pylist())
    if tags is not None and tags.num_rows:
        table = _tags(tags)
        write_part(storage, "tags", 0, table)
        counts.update({"tags": table.num_rows, WITHOUT_TIME: table[schema.TAGGED_AT].null_count})
    write_part(storage, "titles", 0, _titles(titles, first_ratings))
    every = {"interactions": counts.pop("interactions"), "titles": titles.num_rows, "members": len(members)}
    return every | {name: count for name, count in counts.items() if count}


def _write_interactions(
    storage: Storage, folder: Path, layout: layouts.Layout
) -> tuple[Counter[str], pa.Table, set[int]]:
    """Write the ratings; return counts, each title's first rating (title_id, event_time) and the members."""
    counts, members = Counter[str](), set[int]()
    first = _interactions_schema().empty_table().select([schema.TITLE_ID, schema.EVENT_TIME])
    for part, block in enumerate(layouts.read_ratings(folder, layout)):
        table = _interactions(block)
        write_part(storage, "interactions", part, table)
        counts.update({"interactions": table.num_rows, WITHOUT_TIME: table[schema.EVENT_TIME].null_count})
        first = _first_times(pa.concat_tables([first, table.select(first.column_names)]))
        members.update(pc.unique(table[schema.MEMBER_ID]).to_pylist())
    _require_times(folder / layout.ratings, counts)
    return counts, first, members


def _require_times(path: Path, counts: Counter[str]) -> None:
    """Raise ContractError where there is no rating, or none with a time that can be read."""
    if counts["interactions"] == 0:
        raise ContractError("there is no rating in the file", where=str(path), fix="unpack it again")
    if counts[WITHOUT_TIME] == counts["interactions"]:
        raise ContractError(
            "no time in the file can be read",
            where=str(path),
            expected="seconds, milliseconds, microseconds or nanoseconds since 1970, or ISO 8601 text",
            fix="write the column timestamp again in one of these forms",
        )


def _interactions_schema() -> pa.Schema:
    return pa.schema(
        [
            pa.field(schema.MEMBER_ID, pa.int64()),
            pa.field(schema.TITLE_ID, pa.int64()),
            pa.field(schema.EVENT_TIME, schema.TIMESTAMP_TYPE),
            pa.field(schema.ACTION, pa.string()),
            pa.field(schema.VALUE, pa.float64()),
        ]
    )


def _interactions(block: pa.Table) -> pa.Table:
    action, moments = pa.repeat(pa.scalar("rate"), block.num_rows), parse_times(block["time"])
    return pa.table([block["member"], block["title"], moments, action, block["rating"]], schema=_interactions_schema())


def _tags(tags: pa.Table) -> pa.Table:
    """The tags of the contract: each has the moment at which a member gave it, so that nothing reads it earlier."""
    names = [schema.MEMBER_ID, schema.TITLE_ID, schema.TAGGED_AT, schema.TAG]
    return pa.table([tags["member"], tags["title"], parse_times(tags["time"]), tags["tag"]], names=names)


def _first_times(table: pa.Table) -> pa.Table:
    found = table.group_by(schema.TITLE_ID).aggregate([(schema.EVENT_TIME, "min")])
    return found.select([schema.TITLE_ID, f"{schema.EVENT_TIME}_min"]).rename_columns(table.column_names)


def _titles(titles: pa.Table, first_ratings: pa.Table) -> pa.Table:
    """The titles of the contract: launch in the year that the name ends with."""
    launches = _launch_times(titles, first_ratings)
    table = {
        schema.TITLE_ID: titles[schema.TITLE_ID],
        schema.NAME: titles[schema.NAME],
        "kind": pa.repeat(pa.scalar("movie"), titles.num_rows),
        "launch_time": pa.array(launches, schema.TIMESTAMP_TYPE),
        "genres": titles["genres"],
    }
    return pa.table(table)


def _launch_times(titles: pa.Table, first_ratings: pa.Table) -> list[datetime | None]:
    """1 January of the year in the name, or the first rating if that is earlier; None without a year."""
    seen = dict(zip(*(first_ratings[name].to_pylist() for name in first_ratings.column_names), strict=True))
    launches: list[datetime | None] = []
    for title, name in zip(titles[schema.TITLE_ID].to_pylist(), titles[schema.NAME].to_pylist(), strict=True):
        found = _YEAR.search(name)
        year = int(found[1]) if found else 0
        start = datetime(year, 1, 1, tzinfo=UTC) if year else None
        launches.append(min(start, seen.get(title) or start) if start else None)
    return launches
