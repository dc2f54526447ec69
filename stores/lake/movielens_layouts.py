"""Layouts of MovieLens files: columns, separators, and times as numbers in any unit or as text.

Ratings begin in 1995, so that the size of a number says its unit: below 10^11 seconds (the year 5138), below 10^14
milliseconds, below 10^17 microseconds, else nanoseconds.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from pyarrow import csv

from stores.errors import ContractError, NotFoundError, UsageError
from stores.progress import Progress
from stores.schema import TIMESTAMP_TYPE

_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Below each bound, how many microseconds a number counts."""
_TEXT = r"""
    SELECT CASE
        WHEN regexp_full_match(t, '-?[0-9]+') THEN 'n' || TRY_CAST(t AS BIGINT)
        WHEN regexp_full_match(t, '-?[0-9]+\.[0-9]+') THEN 'n' || TRY_CAST(floor(TRY_CAST(t AS DOUBLE)) AS BIGINT)
        ELSE CAST(epoch_us(coalesce(TRY_CAST(t AS TIMESTAMPTZ), try_strptime(t, '%d-%b-%Y'))) AS VARCHAR)
    END FROM (SELECT trim(text, ' "') AS t FROM texts)
"""


def parse_times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers or texts as timestamps in UTC, null where one is no time between the years −290307 and 294246.

    Texts are ISO 8601, in UTC where they name no zone, dates such as 21-Nov-1995, or numbers.
    """
    if pat.is_integer(column.type):
        return _of_numbers(column)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("texts", pa.table({"text": column}))
        found = connection.execute(_TEXT).to_arrow_table().column(0).cast(pa.string())
    numeric = pc.fill_null(pc.starts_with(found, "n"), False)
    numbers = _of_numbers(pc.if_else(numeric, pc.utf8_slice_codeunits(found, 1, 30), None).cast(pa.int64()))
    moments = pc.if_else(numeric, None, found).cast(pa.int64()).cast(TIMESTAMP_TYPE)
    return pc.coalesce(numbers, moments)


def _of_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    size = pc.abs(pc.max_element_wise(column, -(2**63) + 1))
    micros = pc.divide(column, 1000)
    for bound, each in reversed(_UNITS):
        scaled = pc.multiply(pc.if_else(pc.less(size, bound), column, None), each)
        micros = pc.if_else(pc.less(size, bound), scaled, micros)
    return micros.cast(TIMESTAMP_TYPE)


BLOCK_BYTES = 32 << 20
BOM = b"\xef\xbb\xbf"
"""The mark that Windows programs put before UTF-8."""
RATINGS_HEADER = {"userId": "member", "movieId": "title", "rating": "rating", "timestamp": "time"}
RATING_COLUMNS = {"member": pa.int64(), "title": pa.int64(), "rating": pa.float64(), "time": pa.int64()}
TAGS_HEADER = {"userId": "member", "movieId": "title", "tag": "tag", "timestamp": "time"}

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The order of the genre flags in `u.item`, as the edition's README gives it; a `u.genre` beside it wins."""

NO_GENRE = ("", "(no genres listed)", "unknown")
UNDER_18 = 1
"""ml-1m's code for the age band below 18; the other codes are the youngest age of their band."""


@dataclass(frozen=True)
class Layout:
    """The files of one layout; `tags` and `users` are read where they are there."""

    ratings: str
    movies: str
    separator: str
    header: bool = False
    tags: str = ""
    users: str = ""


LAYOUTS = (
    Layout("ratings.csv", "movies.csv", ",", header=True, tags="tags.csv"),
    Layout("rating.csv", "movie.csv", ",", header=True, tags="tag.csv"),
    Layout("ratings.dat", "movies.dat", "::", tags="tags.dat", users="users.dat"),
    Layout("u.data", "u.item", "\t", users="u.user"),
)


def detect(source: Path) -> Layout:
    """The layout of an unpacked MovieLens folder.

    Links are followed. Raises UsageError for a file (an archive, say) and NotFoundError for a folder without MovieLens
    in it and for a link that leads nowhere.
    """
    wanted = "; ".join(f"{layout.ratings} and {layout.movies}" for layout in LAYOUTS)
    if source.is_file():
        raise UsageError(
            f"{source} is a file", expected="a folder", fix="unpack the archive and name the folder it made"
        )
    for layout in LAYOUTS:
        _require_links(source, layout)
        if (source / layout.ratings).is_file() and (source / layout.movies).is_file():
            return layout
    inside = [folder for folder in source.glob("*/") if any((folder / layout.movies).is_file() for layout in LAYOUTS)]
    raise NotFoundError(
        "no MovieLens data set here" if source.is_dir() else "there is no such folder",
        where=str(source),
        expected=f"a folder with {wanted}",
        fix=f"name {inside[0]}" if inside else "unpack the MovieLens archive and name the folder it made",
    )


def _require_links(source: Path, layout: Layout) -> None:
    """Raise NotFoundError where a file of a layout is a link to nothing: it would look as if there were none."""
    for name in filter(None, (layout.ratings, layout.movies, layout.tags, layout.users)):
        path = source / name
        if path.is_symlink() and not path.exists():
            what = f"{name} is a link to {path.readlink()}, which is not there"
            raise NotFoundError(what, where=str(source), fix="unpack the archive again, or mend the link")


def read_ratings(source: Path, layout: Layout) -> Iterator[pa.Table]:
    """The ratings in file order, a bounded number at a time: member, title (int64), rating (float64), time.

    `time` is int64, or string where a block has times that are no whole numbers (`movielens_times.times`). Raises
    ContractError, naming the file, for a line that cannot be read.
    """
    path = source / layout.ratings
    names = list(RATING_COLUMNS)
    with Progress("ratings", path.stat().st_size, "bytes") as progress:
        for number, block in enumerate(_line_blocks(path)):
            rows = block
            if layout.header and number == 0:
                header, _, rows = block.partition(b"\n")
                names = _named(header, RATINGS_HEADER, path)
            if rows:
                where = f"{path}, {BLOCK_BYTES >> 20} MiB block {number}"
                yield _parsed_ratings(rows, layout.separator, names, where)
            progress.advance(len(block))


def _named(header: bytes, wanted: dict[str, str], path: Path) -> list[str]:
    """Our names of the columns of a header line, in its order. Raises ContractError where one of them is missing."""
    found = [name.strip(' "\r') for name in header.removeprefix(BOM).decode("utf-8", "replace").split(",")]
    if not set(wanted) <= set(found):
        raise _unreadable(f"the first line is {header[:80]!r}", str(path), ",".join(wanted))
    return [wanted.get(name, name) for name in found]


def _parsed_ratings(rows: bytes, separator: str, names: list[str], where: str) -> pa.Table:
    if separator == "::":
        # Arrow splits at one character only, and in ratings, all digits and dots, a tab can stand for two colons.
        rows, separator = rows.replace(b"::", b"\t"), "\t"
    parsing = csv.ParseOptions(delimiter=separator)
    try:
        return _typed(rows, parsing, names, RATING_COLUMNS)
    except pa.ArrowInvalid:
        try:
            return _typed(rows, parsing, names, {**RATING_COLUMNS, "time": pa.string()})
        except pa.ArrowInvalid as error:
            expected = f"member, title, rating, time, separated by {separator!r}"
            raise _unreadable(str(error), where, expected) from error


def _typed(rows: bytes, parsing: csv.ParseOptions, names: list[str], types: dict[str, pa.DataType]) -> pa.Table:
    reading = csv.ReadOptions(column_names=names)
    converting = csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[])
    return csv.read_csv(pa.BufferReader(rows), reading, parsing, converting)


def _unreadable(what: str, where: str, expected: str) -> ContractError:
    return ContractError(f"cannot be read: {what}", where=where, expected=expected, fix="unpack the archive again")


def read_movies(source: Path, layout: Layout) -> pa.Table:
    """All titles: title_id (int64), name (string), genres (list<string>, empty where none is listed)."""
    path = source / layout.movies
    if layout.header:
        rows = _csv_columns(path, {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()})
        ids, names = rows["movieId"], rows["title"].to_pylist()
        genres = [_listed(text.split("|")) for text in rows["genres"].to_pylist()]
    elif layout.separator == "::":
        lines = _fields(path, "::", 3)
        ids, names = [int(line[0]) for line in lines], [line[1] for line in lines]
        genres = [_listed(line[2].split("|")) for line in lines]
    else:
        flags = _flag_names(source)
        lines = _fields(path, "|", 5 + len(flags))
        ids, names = [int(line[0]) for line in lines], [line[1] for line in lines]
        genres = [_listed([name for name, on in zip(flags, line[5:], strict=True) if on == "1"]) for line in lines]
    schema = pa.schema({"title_id": pa.int64(), "name": pa.string(), "genres": pa.list_(pa.string())})
    return pa.table([ids, [name.strip() for name in names], genres], schema=schema)


def read_tags(source: Path, layout: Layout) -> pa.Table | None:
    """The tags that members gave: member, title (int64), tag, time (string); None where the edition has none."""
    path = source / layout.tags
    if not layout.tags or not path.is_file():
        return None
    if layout.header:
        types = {"userId": pa.int64(), "movieId": pa.int64(), "tag": pa.string(), "timestamp": pa.string()}
        return _csv_columns(path, types).rename_columns(list(TAGS_HEADER.values()))
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.rstrip("\r"):
            member, title, *tag, time = _at_least(line.rstrip("\r").split("::"), 4, path, number)
            # A tag may hold "::" itself: the fields around it are the first two and the last.
            rows.append((int(member), int(title), "::".join(tag), time))
    cells = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    kinds = (pa.int64(), pa.int64(), pa.string(), pa.string())
    arrays = [pa.array(column, kind) for column, kind in zip(cells, kinds, strict=True)]
    return pa.table(arrays, names=list(TAGS_HEADER.values()))


def _at_least(fields: list[str], count: int, path: Path, number: int) -> list[str]:
    """The fields of a line that begins with two numbers. Raises ContractError for another line."""
    if len(fields) < count or not all(field.isdecimal() for field in fields[:2]):
        raise _unreadable(repr("::".join(fields)[:80]), f"{path}, line {number}", "member::title::tag::time")
    return fields


def read_users(source: Path, layout: Layout) -> pa.Table | None:
    """The members: member_id (int64) and maturity (int64, the age in years); None where the edition has none."""
    path = source / layout.users
    if not layout.users or not path.is_file():
        return None
    banded = layout.separator == "::"
    lines = _fields(path, "::", 5) if banded else _fields(path, "|", 5)
    ages = [int(line[2 if banded else 1]) for line in lines]
    ages = [17 if banded and age == UNDER_18 else age for age in ages]
    return pa.table({"member_id": [int(line[0]) for line in lines], "maturity": ages})


def _line_blocks(path: Path) -> Iterator[bytes]:
    """A file in pieces of about BLOCK_BYTES that end where a line ends."""
    rest = b""
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            head, newline, tail = (rest + block).rpartition(b"\n")
            rest = tail
            if newline:
                yield head + newline
    if rest.strip():
        yield rest + b"\n"


def _csv_columns(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    parsing = csv.ParseOptions(newlines_in_values=True)
    converting = csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=False)
    try:
        return csv.read_csv(pa.BufferReader(_text(path).encode()), parse_options=parsing, convert_options=converting)
    except (pa.ArrowInvalid, KeyError) as error:
        raise _unreadable(str(error), str(path), f"columns {', '.join(types)}") from error


def _text(path: Path) -> str:
    """The text of a file: UTF-8 in the later editions; a line that is not, as in the earlier ones, is Windows-1252.

    Line by line, so that one foreign line does not spoil the others.
    """
    data = path.read_bytes().removeprefix(BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "\n".join(map(_line, data.split(b"\n")))


def _line(data: bytes) -> str:
    """A line as UTF-8, as Windows-1252, or as Latin-1, which has a character for every byte."""
    for encoding in ("utf-8", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")


def _fields(path: Path, separator: str, count: int) -> list[list[str]]:
    """The fields of each line. Raises ContractError for a line with another count or an id that is no number."""
    found = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        fields = line.rstrip("\r").split(separator)
        if fields == [""]:
            continue
        if len(fields) != count or not fields[0].isdecimal():
            expected = f"{count} fields separated by {separator!r}, the first a number"
            raise _unreadable(repr(line[:80]), f"{path}, line {number}", expected)
        found.append(fields)
    return found


def _flag_names(source: Path) -> tuple[str, ...]:
    path = source / "u.genre"
    return tuple(line[0] for line in _genre_lines(path)) if path.is_file() else GENRES_100K


def _genre_lines(path: Path) -> list[list[str]]:
    """`name|position` lines in the order of their positions."""
    lines = [line.split("|") for line in _text(path).splitlines() if line.strip()]
    return sorted(lines, key=lambda line: int(line[1]))


def _listed(genres: list[str]) -> list[str]:
    return [genre.strip() for genre in genres if genre.strip() not in NO_GENRE]
