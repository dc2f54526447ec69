"""Searching a release's index as any consumer would: with plain FAISS and the Parquet file of ids."""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from retrieval.vectors import Vectors
from stores.columns import TITLE_ID
from stores.release import Release

FOLDER = "index"


def search_candidates(release: Release, queries: Vectors, k: int) -> tuple[list[list[Any]], npt.NDArray[np.float32]]:
    """The ids and inner products that `index/candidates.faiss` gives for (n, d) queries: n lists of k, and (n, k).

    Fewer ids than k where the index finds fewer. Raises CorruptError for files that were changed.
    """
    data = np.frombuffer(release.read_bytes(f"{FOLDER}/candidates.faiss"), np.uint8)
    index = faiss.deserialize_index(data)
    ids = release.read_table(f"{FOLDER}/ids.parquet", [TITLE_ID])[TITLE_ID].to_pylist()
    scores, rows = index.search(np.ascontiguousarray(queries, np.float32), k)
    return [[ids[row] for row in found if row >= 0] for found in rows.tolist()], scores
