"""Names in the Feast repository: entities, views, services, and the columns of the history. No Feast import."""

from dataclasses import dataclass

import pyarrow as pa

from stores import columns

FOLDER = "feast"
HISTORY = f"{FOLDER}/history"
PROJECT = "samespace"
FIRST_SPACE = "1"
EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"
FEATURES = (columns.EMBEDDING, columns.RELEASE_ID, columns.SPACE_ID, columns.ENCODED_AT)


@dataclass(frozen=True)
class Kind:
    """What one view publishes: the release's folder, Feast's entity, and its join key."""

    folder: str
    entity: str
    join_key: str

    def view(self, space_id: str) -> str:
        """The feature view of a space; the suffix begins with the second space."""
        base = f"{self.entity}_embedding"
        return base if space_id == FIRST_SPACE else f"{base}_s{space_id}"


MEMBERS = Kind("members", "member", columns.MEMBER_ID)
TITLES = Kind("titles", "title", columns.TITLE_ID)
KINDS = (MEMBERS, TITLES)


def history_schema(kind: Kind, id_type: pa.DataType) -> pa.Schema:
    """One row per (entity, move that changed it); every feature is null in the row of a departure."""
    return pa.schema(
        [
            pa.field(kind.join_key, id_type),
            pa.field(columns.EMBEDDING, pa.list_(pa.float32())),
            pa.field(columns.RELEASE_ID, pa.string()),
            pa.field(columns.SPACE_ID, pa.string()),
            pa.field(columns.ENCODED_AT, columns.TIME),
            pa.field(EVENT_TIMESTAMP, columns.TIME),
            pa.field(CREATED_TIMESTAMP, columns.TIME),
        ]
    )
