"""How the editions of MovieLens lie on disk, and how to read each file as Arrow tables.

Three layouts: `.csv` (ml-latest*, ml-20m, ml-25m, ml-32m), `.dat` with "::" between fields (ml-1m,
ml-10M) and `u.*` (ml-100k). The formats are those of the README that comes with each edition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from stores.errors import ContractError, NotFoundError, UsageError
from stores.progress import Progress

BLOCK_BYTES = 32 << 20
RATINGS_HEADER = b"userId,movieId,rating,timestamp"
RATING_COLUMNS = {"member": pa.int64(), "title": pa.int64(), "rating": pa.float64(), "seconds": pa.int64()}

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
    Layout("ratings.dat", "movies.dat", "::", tags="tags.dat", users="users.dat"),
    Layout("u.data", "u.item", "\t", users="u.user"),
)


def detect(source: Path) -> Layout:
    """The layout of an unpacked MovieLens folder.

    Raises UsageError for a file (an archive, say) and NotFoundError for a folder without MovieLens in it.
    """
    wanted = "; ".join(f"{layout.ratings} and {layout.movies}" for layout in LAYOUTS)
    if source.is_file():
        raise UsageError(
            f"{source} is a file", expected="a folder", fix="unpack the archive and name the folder it made"
        )
    for layout in LAYOUTS:
        if (source / layout.ratings).is_file() and (source / layout.movies).is_file():
            return layout
    inside = [folder for folder in source.glob("*/") if any((folder / layout.movies).is_file() for layout in LAYOUTS)]
    raise NotFoundError(
        "no MovieLens data set here" if source.is_dir() else "there is no such folder",
        where=str(source),
        expected=f"a folder with {wanted}",
        fix=f"name {inside[0]}" if inside else "unpack the MovieLens archive and name the folder it made",
    )


def ratings(source: Path, layout: Layout) -> Iterator[pa.Table]:
    """The ratings in file order, a bounded number at a time: member, title (int64), rating (float64), seconds (int64).

    Raises ContractError, naming the file, for a line that cannot be read.
    """
    path = source / layout.ratings
    with Progress("ratings", path.stat().st_size, "bytes") as progress:
        for number, block in enumerate(_line_blocks(path)):
            header, _, rows = block.partition(b"\n") if layout.header and number == 0 else (b"", b"", block)
            if header and header.strip().replace(b'"', b"") != RATINGS_HEADER:
                raise _unreadable(f"the first line is {header!r}", str(path), RATINGS_HEADER.decode())
            if rows:
                yield _parsed_ratings(rows, layout.separator, f"{path}, {BLOCK_BYTES >> 20} MiB block {number}")
            progress.advance(len(block))


def _parsed_ratings(rows: bytes, separator: str, where: str) -> pa.Table:
    if separator == "::":
        # Arrow splits at one character only, and in ratings, all digits and dots, a tab can stand for two colons.
        rows, separator = rows.replace(b"::", b"\t"), "\t"
    reading = csv.ReadOptions(column_names=list(RATING_COLUMNS))
    converting = csv.ConvertOptions(column_types=RATING_COLUMNS, null_values=[])
    try:
        return csv.read_csv(pa.BufferReader(rows), reading, csv.ParseOptions(delimiter=separator), converting)
    except pa.ArrowInvalid as error:
        expected = f"member, title, rating, seconds since 1970, separated by {separator!r}"
        raise _unreadable(str(error), where, expected) from error


def _unreadable(what: str, where: str, expected: str) -> ContractError:
    return ContractError(f"cannot be read: {what}", where=where, expected=expected, fix="unpack the archive again")


def movies(source: Path, layout: Layout) -> pa.Table:
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


def tags(source: Path, layout: Layout) -> pa.Table | None:
    """The tags that members gave: title_id (int64), tag (string); None where the edition has none."""
    path = source / layout.tags
    if not layout.tags or not path.is_file():
        return None
    if layout.header:
        rows = _csv_columns(path, {"movieId": pa.int64(), "tag": pa.string()})
        return rows.rename_columns(["title_id", "tag"])
    lines = [line.split("::") for line in _text(path).splitlines() if line]
    # A tag may hold "::" itself: the fields around it are the first two and the last.
    return pa.table({"title_id": [int(line[1]) for line in lines], "tag": ["::".join(line[2:-1]) for line in lines]})


def users(source: Path, layout: Layout) -> pa.Table | None:
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
        return csv.read_csv(path, parse_options=parsing, convert_options=converting)
    except (pa.ArrowInvalid, KeyError) as error:
        raise _unreadable(str(error), str(path), f"columns {', '.join(types)}") from error


def _text(path: Path) -> str:
    """The text of a file: UTF-8 in the later editions, Latin-1 in the earlier ones."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
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
