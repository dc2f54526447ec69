"""What the repository's description must say so that a release's views can be written and read."""

from typing import Any

import pyarrow as pa

from stores import columns
from stores.errors import MismatchError
from stores.features.values import feature_kind
from stores.features.views import BLUE, GREEN, ORIGIN, View, served_type, services

Described = dict[str, Any]
ORIGIN_TYPES = {columns.RELEASE_ID: "string", columns.SPACE_ID: "string", columns.ENCODED_AT: "timestamp"}


def with_views(described: Described, found: dict[View, pa.Schema], space_id: str, slots: int) -> Described:
    """The description with the views of a space, one of each for every slot; `found` has their stored columns."""
    for view, stored in found.items():
        kind = _id_kind(stored.field(view.join_key).type)
        described["entities"][view.entity] = {"join_key": view.join_key, "id": kind}
        features = {name: feature_kind(served_type(stored.field(name).type)) for name in view.columns}
        for slot in (BLUE, GREEN)[:slots]:
            described["views"][view.view(space_id, slot)] = {
                "entity": view.entity,
                "history": view.view(space_id, BLUE),
                "features": features | {name: ORIGIN_TYPES[name] for name in ORIGIN},
                "order": list(view.features),  # JSON sorts the keys of `features`
            }
    return described


def with_services(described: Described, views: list[View], space_id: str, slot: str, tags: dict[str, str]) -> Described:
    """The description with the services of a space moved to a slot; `tags` are Feast's, on each of them."""
    for name, members in services(space_id, views, slot).items():
        described["services"][name] = {"views": members, "slot": slot, "tags": tags}
    return described


def serving(described: Described, space_id: str) -> dict[str, Any] | None:
    """The service of the embeddings of a space: its `slot` and `tags`; None where there is none yet."""
    found = described["services"].get(f"embeddings_v{space_id}")
    return None if found is None else {"slot": BLUE, **found}


def _id_kind(kind: pa.DataType) -> str:
    if pa.types.is_int64(kind):
        return "int64"
    if pa.types.is_string(kind):
        return "string"
    raise MismatchError(f"ids are {kind}", expected="int64 or string")
