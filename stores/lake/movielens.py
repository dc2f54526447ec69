"""`import movielens`: an unpacked MovieLens folder becomes a lake.

A rating is an interaction with action "rate" and the stars as its value. Rows keep the order of the
file, which is what breaks ties between equal times.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stores import columns
from stores.errors import ContractError
from stores.lake import movielens_layouts as layouts
from stores.lake.writing import open_empty_lake, write_part
from stores.storage import Storage

TAGS_PER_TITLE = 32
"""A description needs no more: a title's frequent tags come first, and the long tail is spelling."""

_YEAR = re.compile(r"\(([12]\d{3})(?:\s*[-\u2013]\s*(?:\d{4})?)?\)\s*$")


def import_movielens(source: Path | str, out: str) -> dict[str, int]:
    """Write the MovieLens data set unpacked in `source` as a lake to `out` (a folder or `s3://bucket/prefix`).

    Reads ml-latest*, ml-20m, ml-25m, ml-32m, ml-10M, ml-1m and ml-100k; links and the tag genome are left
    out, since the contract has no column for them. Ratings are streamed, so memory does not grow with
    their number. `titles/` is written last: a lake without it is one whose import did not finish.

    Returns how many `interactions`, `titles` and `members` there are; `members/` itself is written for the
    editions with a users file only. Raises NotFoundError or UsageError for a source or a destination that
    cannot be used, ContractError for a file that cannot be read.
    """
    folder = Path(source)
    layout = layouts.detect(folder)
    titles, tags, users = layouts.movies(folder, layout), layouts.tags(folder, layout), layouts.users(folder, layout)
    storage = open_empty_lake(out)
    interactions, first_ratings, members = _write_interactions(storage, folder, layout)
    if users is not None:
        write_part(storage, "members", 0, users)
        members.update(users[columns.MEMBER_ID].to_pylist())
    write_part(storage, "titles", 0, _titles(titles, first_ratings, tags))
    return {"interactions": interactions, "titles": titles.num_rows, "members": len(members)}


def _write_interactions(storage: Storage, folder: Path, layout: layouts.Layout) -> tuple[int, pa.Table, set[int]]:
    """Write the ratings; return their number, each title's first rating (title_id, event_time) and the members."""
    rows, members = 0, set[int]()
    first = _interactions_schema().empty_table().select([columns.TITLE_ID, columns.EVENT_TIME])
    for part, block in enumerate(layouts.ratings(folder, layout)):
        table = _interactions(block)
        write_part(storage, "interactions", part, table)
        rows += table.num_rows
        first = _first_times(pa.concat_tables([first, table.select(first.column_names)]))
        members.update(pc.unique(table[columns.MEMBER_ID]).to_pylist())
    if rows == 0:
        raise ContractError("there is no rating in the file", where=str(folder / layout.ratings), fix="unpack it again")
    return rows, first, members


def _interactions_schema() -> pa.Schema:
    return pa.schema(
        [
            pa.field(columns.MEMBER_ID, pa.int64()),
            pa.field(columns.TITLE_ID, pa.int64()),
            pa.field(columns.EVENT_TIME, columns.TIME),
            pa.field(columns.ACTION, pa.string()),
            pa.field(columns.VALUE, pa.float64()),
        ]
    )


def _interactions(block: pa.Table) -> pa.Table:
    times = pc.multiply(block["seconds"], 1_000_000).cast(columns.TIME)
    action = pa.repeat(pa.scalar("rate"), block.num_rows)
    return pa.table([block["member"], block["title"], times, action, block["rating"]], schema=_interactions_schema())


def _first_times(table: pa.Table) -> pa.Table:
    found = table.group_by(columns.TITLE_ID).aggregate([(columns.EVENT_TIME, "min")])
    return found.select([columns.TITLE_ID, f"{columns.EVENT_TIME}_min"]).rename_columns(table.column_names)


def _titles(titles: pa.Table, first_ratings: pa.Table, tags: pa.Table | None) -> pa.Table:
    """The titles of the contract: launch in the year that the name ends with, text of the tags."""
    launches = _launch_times(titles, first_ratings)
    table = {
        columns.TITLE_ID: titles[columns.TITLE_ID],
        columns.NAME: titles[columns.NAME],
        "kind": pa.repeat(pa.scalar("movie"), titles.num_rows),
        "launch_time": pa.array(launches, columns.TIME),
        "genres": titles["genres"],
    }
    if tags is not None:
        texts = _tag_texts(tags)
        table["text"] = pa.array([texts.get(title) for title in titles[columns.TITLE_ID].to_pylist()], pa.string())
    return pa.table(table)


def _launch_times(titles: pa.Table, first_ratings: pa.Table) -> list[datetime | None]:
    """1 January of the year in the name, or the first rating if that is earlier; None without a year."""
    seen = dict(zip(*(first_ratings[name].to_pylist() for name in first_ratings.column_names), strict=True))
    launches: list[datetime | None] = []
    for title, name in zip(titles[columns.TITLE_ID].to_pylist(), titles[columns.NAME].to_pylist(), strict=True):
        found = _YEAR.search(name)
        year = int(found[1]) if found else 0
        start = datetime(year, 1, 1, tzinfo=UTC) if year else None
        launches.append(min(start, seen.get(title, start)) if start else None)
    return launches


def _tag_texts(tags: pa.Table) -> dict[int, str]:
    """The most frequent tags of each title, lower case, most frequent first, as one text."""
    query = """
        WITH counted AS (
            SELECT title_id, lower(trim(tag)) AS word, count(*) AS times FROM tags WHERE trim(tag) <> '' GROUP BY ALL),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY title_id ORDER BY times DESC, word) AS place FROM counted)
        SELECT title_id, string_agg(word, ', ' ORDER BY place) FROM ranked WHERE place <= ? GROUP BY title_id
    """
    with duckdb.connect() as connection:
        connection.register("tags", tags)
        return dict(connection.execute(query, [TAGS_PER_TITLE]).fetchall())
