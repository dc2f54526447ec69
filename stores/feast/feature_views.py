"""Names in the Feast repository: views, entities, slots, services, and the columns of the history. No Feast import.

A view is one declaration here: its name, Feast's entity, the release's folder, and the columns that it serves.
Everything else (difference, history, online rows, registration, rollback, erasure) follows from it.
"""

from dataclasses import dataclass

import pyarrow as pa

from stores import schema
from stores.schema import EMBEDDING, ENCODED_AT, GENRE, RELEASE_ID, SPACE_ID

FOLDER = "feast"
HISTORY = f"{FOLDER}/history"
PROJECT = "samespace"
FIRST_SPACE = "1"
BLUE_SLOT, GREEN_SLOT = "blue", "green"
EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"
VERSION_COLUMNS = (RELEASE_ID, SPACE_ID, ENCODED_AT)
"""What every view serves beside its own columns: the release in which the row last changed, its space, its time."""


@dataclass(frozen=True)
class FeatureViewSpec:
    """One published view: `folder` of a release holds `columns` of an `entity`, one row each, beside ORIGIN.

    An optional view is published where a release has files in its folder.
    """

    name: str
    entity: str
    folder: str
    columns: tuple[str, ...]
    optional: bool = True

    @property
    def join_key(self) -> str:
        """The column of the entity's ids, which is Feast's join key."""
        return GENRE if self.entity == GENRE else f"{self.entity}_id"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of everything that Feast serves of this view."""
        return (*self.columns, *VERSION_COLUMNS)

    def view(self, space_id: str, slot: str = BLUE_SLOT) -> str:
        """Feast's name of the view: the suffix of the space begins with the second, that of the slot is green's."""
        space = "" if space_id == FIRST_SPACE else f"_s{space_id}"
        return f"{self.name}{space}{'' if slot == BLUE_SLOT else f'_{slot}'}"


MEMBERS = FeatureViewSpec("member_embedding", "member", "members", (EMBEDDING,), optional=False)
TITLES = FeatureViewSpec("title_embedding", "title", "titles", (EMBEDDING,), optional=False)
GENRES = FeatureViewSpec("genre_embedding", "genre", "genres", (EMBEDDING,))
SEMANTIC_IDS = FeatureViewSpec("title_semantic_id", "title", "semantic_ids", ("semantic_id",))
PREFERENCES = FeatureViewSpec(
    "member_preferences", "member", "preferences", ("genres", "genre_share", "languages", "language_share")
)
CANDIDATES = FeatureViewSpec("member_candidates", "member", "candidates", ("title_ids", "scores"))
EMBEDDINGS = (MEMBERS, TITLES)
VIEWS = (MEMBERS, TITLES, GENRES, SEMANTIC_IDS, PREFERENCES, CANDIDATES)


def history_folder(view: FeatureViewSpec, space_id: str) -> str:
    """Where the rows of a view's history are, from the workspace's root; both slots of a view share them."""
    return f"{HISTORY}/{view.view(space_id, BLUE_SLOT)}"


def services(space_id: str, views: list[FeatureViewSpec], slot: str) -> dict[str, list[str]]:
    """Feast's views by feature service: the two embeddings together, every optional view by itself."""
    both = [view.view(space_id, slot) for view in views if not view.optional]
    alone = {f"{view.name}_v{space_id}": [view.view(space_id, slot)] for view in views if view.optional}
    return {f"embeddings_v{space_id}": both, **alone}


def served_type(stored: pa.DataType) -> pa.DataType:
    """The Arrow type in which Feast keeps a column of a release: lists of fixed size become plain ones."""
    return pa.list_(stored.value_type) if pa.types.is_fixed_size_list(stored) else stored


def history_schema(view: FeatureViewSpec, stored: pa.Schema) -> pa.Schema:
    """One row per (entity, move that changed it); every feature is null in the row of a departure."""
    return pa.schema(
        [
            pa.field(view.join_key, stored.field(view.join_key).type),
            *(pa.field(name, served_type(stored.field(name).type)) for name in view.columns),
            pa.field(RELEASE_ID, pa.string()),
            pa.field(SPACE_ID, pa.string()),
            pa.field(ENCODED_AT, schema.TIMESTAMP_TYPE),
            pa.field(EVENT_TIMESTAMP, schema.TIMESTAMP_TYPE),
            pa.field(CREATED_TIMESTAMP, schema.TIMESTAMP_TYPE),
        ]
    )
