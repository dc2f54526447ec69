"""Reading published features back as any consumer would: with plain Feast, from the online store."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stores import columns
from stores.features.registering import serving
from stores.features.repository import FeatureRepository, PublishConfig
from stores.features.views import BLUE, EMBEDDINGS
from stores.release import Release
from stores.storage import Storage

Row = tuple[npt.NDArray[np.float32] | None, str | None]


def read_online(config: PublishConfig, release: Release, folder: str, ids: list[Any]) -> list[Row]:
    """What Feast serves for ids of "members" or "titles" in the release's space, in the order of `ids`.

    Each is (vector (d,) float32, release in which it last changed); (None, None) where nothing is served.
    Raises what Feast raises where the store cannot be reached.
    """
    kind = next(kind for kind in EMBEDDINGS if kind.folder == folder)
    repository = FeatureRepository(Storage(release.workspace_uri), config)
    now = serving(repository.described(), release.space_id)
    view, store = kind.view(release.space_id, now["slot"] if now else BLUE), repository.open()
    features = [f"{view}:{columns.EMBEDDING}", f"{view}:{columns.RELEASE_ID}"]
    served = store.get_online_features(features, [{kind.join_key: entity} for entity in ids]).to_dict()
    rows = dict(
        zip(served[kind.join_key], zip(served[columns.EMBEDDING], served[columns.RELEASE_ID], strict=True), strict=True)
    )
    return [_row(*rows.get(entity, (None, None))) for entity in ids]


def _row(vector: list[float] | None, release_id: str | None) -> Row:
    return (None if vector is None else np.asarray(vector, np.float32)), release_id
