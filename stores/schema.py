"""Column names and Arrow schemas, each written once.

Ids are `int64` or `string`, one kind per column; functions that make a schema take that kind.
Times are microseconds in UTC.
"""

import pyarrow as pa

MEMBER_ID = "member_id"
TITLE_ID = "title_id"
GENRE = "genre"
EVENT_TIME = "event_time"
ACTION = "action"
DURATION = "duration_s"
VALUE = "value"
DEVICE = "device"
COUNTRY = "country"
LOCALE = "locale"
EMBEDDING = "embedding"
NAME = "name"
PROPENSITY = "propensity"
"""Optional list column of histories in training (`embeddings.histories.propensity`)."""
TAG = "tag"
TAGGED_AT = "tagged_at"
TIMED_TEXT = "timed_text"
"""Optional column of a catalogue in training and evaluation (`embeddings.histories.job.tags`)."""
HISTORY_HASH = "history_hash"
RELEASE_ID = "release_id"
SPACE_ID = "space_id"
ENCODED_AT = "encoded_at"

TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")

ACTIONS = (
    "play",
    "trailer",
    "thumb_up",
    "thumb_down",
    "add_to_list",
    "rate",
    "remove_from_list",
    "view",
    "click",
    "add_to_cart",
    "purchase",
    "search",
    "share",
)
"""Actions known by default, in the order of their bits in a token's `actions`; never reorder, only append."""


def embedding_type(dim: int) -> pa.DataType:
    """The type of an embedding column: `fixed_size_list<float32>[dim]`."""
    return pa.list_(pa.float32(), dim)


def title_fields() -> list[pa.Field]:
    """Everything the titles contract knows besides the id, in the order in which it is stored."""
    return [
        pa.field(NAME, pa.string()),
        pa.field("kind", pa.string()),
        pa.field("launch_time", TIMESTAMP_TYPE),
        pa.field("runtime_s", pa.float64()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("language", pa.string()),
        pa.field(COUNTRY, pa.string()),
        pa.field("text", pa.string()),
        pa.field(EMBEDDING, pa.list_(pa.float32())),
        pa.field("available_countries", pa.list_(pa.string())),
        pa.field("maturity", pa.int64()),
    ]


def catalogue_schema(title_id: pa.DataType) -> pa.Schema:
    """One row per title as of the night: the contract's columns, `plays` so far and `age_days` since launch.

    This is what `Encoder.encode_titles` gets. The vectors in `embedding` are finite and all of one length, or null.
    `age_days` counts whole days and is NaN where the launch is unknown and negative before it.
    """
    night = [pa.field("plays", pa.int64()), pa.field("age_days", pa.float64())]
    return pa.schema([pa.field(TITLE_ID, title_id), *title_fields(), *night])


def history_schema(member_id: pa.DataType, title_id: pa.DataType) -> pa.Schema:
    """One row per member: parallel lists, one entry per token, oldest first.

    `actions` is a bit set over the configured actions, `duration_s` a sum (0 if unknown), `value` the
    last one given (NaN if none), `events` the number of raw events merged into the token;
    `event_time` is the time of the last event, `history_hash` names the content.
    """
    text = pa.list_(pa.string())
    return pa.schema(
        [
            pa.field(MEMBER_ID, member_id),
            pa.field(TITLE_ID, pa.list_(title_id)),
            pa.field("first_time", pa.list_(TIMESTAMP_TYPE)),
            pa.field("last_time", pa.list_(TIMESTAMP_TYPE)),
            pa.field("actions", pa.list_(pa.int32())),
            pa.field(DURATION, pa.list_(pa.float64())),
            pa.field(VALUE, pa.list_(pa.float32())),
            pa.field("events", pa.list_(pa.int32())),
            pa.field(DEVICE, text),
            pa.field(COUNTRY, text),
            pa.field(LOCALE, text),
            pa.field(EVENT_TIME, TIMESTAMP_TYPE),
            pa.field(HISTORY_HASH, pa.string()),
        ]
    )


def member_vector_schema(member_id: pa.DataType, dim: int) -> pa.Schema:
    """Vectors of members, native or aligned: what a shard of `members/` holds.

    `history_length` counts tokens; `release_id` is the release in which the vector last changed.
    """
    return pa.schema(
        [
            pa.field(MEMBER_ID, member_id),
            pa.field(EMBEDDING, embedding_type(dim)),
            pa.field(EVENT_TIME, TIMESTAMP_TYPE),
            pa.field(HISTORY_HASH, pa.string()),
            pa.field("history_length", pa.int32()),
            pa.field(RELEASE_ID, pa.string()),
            pa.field(ENCODED_AT, TIMESTAMP_TYPE),
        ]
    )


def title_vector_schema(title_id: pa.DataType, dim: int) -> pa.Schema:
    """Vectors of titles with the metadata that filters and pages need: what a shard of `titles/` holds."""
    kept = [field for field in title_fields() if field.name not in ("text", EMBEDDING)]
    return pa.schema(
        [
            pa.field(TITLE_ID, title_id),
            pa.field(EMBEDDING, embedding_type(dim)),
            *kept,
            pa.field("plays", pa.int64()),
            pa.field(RELEASE_ID, pa.string()),
            pa.field(ENCODED_AT, TIMESTAMP_TYPE),
        ]
    )


def dead_letter_schema() -> pa.Schema:
    """A refused row: the file it came from, its position there (0-based), the column, the value as text, the reason."""
    return pa.schema(
        [
            pa.field("source", pa.string()),
            pa.field("row", pa.int64()),
            pa.field("column", pa.string()),
            pa.field(VALUE, pa.string()),
            pa.field("reason", pa.string()),
        ]
    )
