"""The lake's input contract: which tables it has, which columns of which kind, required or not.

    interactions/   who did what with which title, when        required
    titles/         the catalogue                              required
    impressions/    what was shown                             optional
    members/        where members are, for filters only        optional
    tags/           what members called titles, when           optional

Unknown extra columns are kept out. Ids are `int64` or `string`, one kind per column over the whole lake."""

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

from stores import schema

INTERACTIONS = "interactions"
TITLES = "titles"
IMPRESSIONS = "impressions"
MEMBERS = "members"
TAGS = "tags"
MEMBER_AND_TITLE = (schema.MEMBER_ID, schema.TITLE_ID)


class Kind(Enum):
    """What a column holds; how each physical type is brought to it is `cells.cell_of`."""

    ID = "int64 or string"
    TIME = "timestamp, UTC"
    TEXT = "string"
    NUMBER = "float"
    INTEGER = "int"
    TEXTS = "list<string>"
    NUMBERS = "list<float>"


@dataclass(frozen=True)
class Column:
    """One column of the contract."""

    name: str
    kind: Kind
    required: bool = False


_KIND_OF = {
    schema.TIMESTAMP_TYPE: Kind.TIME,
    pa.string(): Kind.TEXT,
    pa.float64(): Kind.NUMBER,
    pa.int64(): Kind.INTEGER,
    pa.list_(pa.string()): Kind.TEXTS,
    pa.list_(pa.float32()): Kind.NUMBERS,
}


def _column(name: str, kind: Kind, required: bool = False) -> Column:
    return Column(name, kind, required)


TABLES: dict[str, tuple[Column, ...]] = {
    INTERACTIONS: (
        _column(schema.MEMBER_ID, Kind.ID, True),
        _column(schema.TITLE_ID, Kind.ID, True),
        _column(schema.EVENT_TIME, Kind.TIME, True),
        _column(schema.ACTION, Kind.TEXT, True),
        _column(schema.DURATION, Kind.NUMBER),
        _column(schema.VALUE, Kind.NUMBER),
        _column(schema.DEVICE, Kind.TEXT),
        _column(schema.COUNTRY, Kind.TEXT),
        _column(schema.LOCALE, Kind.TEXT),
    ),
    TITLES: (
        _column(schema.TITLE_ID, Kind.ID, True),
        *(_column(field.name, _KIND_OF[field.type]) for field in schema.title_fields()),
    ),
    IMPRESSIONS: (
        _column(schema.MEMBER_ID, Kind.ID, True),
        _column(schema.TITLE_ID, Kind.ID, True),
        _column("shown_at", Kind.TIME, True),
        _column("position", Kind.INTEGER),
        _column("surface", Kind.TEXT),
    ),
    MEMBERS: (
        _column(schema.MEMBER_ID, Kind.ID, True),
        _column(schema.COUNTRY, Kind.TEXT),
        _column("maturity", Kind.INTEGER),
        _column(schema.LOCALE, Kind.TEXT),
    ),
    TAGS: (
        _column(schema.TITLE_ID, Kind.ID, True),
        _column(schema.TAGGED_AT, Kind.TIME, True),
        _column(schema.TAG, Kind.TEXT, True),
        _column(schema.MEMBER_ID, Kind.ID),
    ),
}
