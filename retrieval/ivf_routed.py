"""`ivf_routed`: titles in cells by direction, and members teach which cells a query reads.

An inverted file asks how near a query is to the centre of a cell. A member is another thing than a title, and what
matters is how much the best title of a cell would score: so each cell is represented by the vector whose inner product
with members comes closest to that, by least squares (after Vecchiato, Lucchese, Nardini and Bruch 2024, "A
learning-to-rank formulation of clustering-based approximate nearest neighbor search"). The file is a plain inverted
file; batches are answered cell by cell (`cellwise`), several times as fast as one query after the other.
"""

from typing import Any

import faiss
import numpy as np
from typing_extensions import override

from retrieval import cellwise
from retrieval.backend import Guide
from retrieval.ivf_flat import IvfFlat
from retrieval.vectors import Mask, Rows, Vectors, unit
from stores.errors import UsageError

_BATCH = 256
"""With fewer queries a cell has too few readers for a matrix product to pay."""
_LARGEST = 8192
"""So many queries at a time: what is known of each query and cell has to fit in memory."""
_TEACHERS = 1024
"""Members from whom representatives are learned; each has as many numbers to learn as a vector has."""
_ROUNDS, _POINTS = 8, 64  # of k-means, and titles a cell that it looks at


class IvfRouted(IvfFlat):
    """Cells of titles, routed by what members want; effort is how many cells a query reads."""

    name, guided = "ivf_routed", True
    efforts = tuple(cells * 2**octave for octave in range(8) for cells in (4, 5, 6, 7))  # 4 to 896

    @override
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
        if guide is None or len(guide.queries) < 2:
            raise UsageError("ivf_routed learns from members", expected="member vectors to guide it")
        cells = max(1, int(len(vectors) ** 0.5))
        home = _homes(vectors, cells, guide.seed)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        quantizer.add(_representatives(vectors, home, cells, unit(guide.queries[:_TEACHERS])))
        index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        index.is_trained = True
        index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(home))
        # written and read at once, because what is read owns its parts
        return faiss.deserialize_index(faiss.serialize_index(index))

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        if len(queries) < _BATCH:
            return super().search(index, queries, fetch, effort, allowed)
        parts = np.split(queries, range(_LARGEST, len(queries), _LARGEST))
        return np.concatenate(
            [cellwise.search(index, part, fetch, min(effort, index.nlist), allowed) for part in parts]
        )


def _homes(vectors: Vectors, cells: int, seed: int) -> Rows:
    """The cell (n,) of each title, by direction."""
    settings = {"niter": _ROUNDS, "max_points_per_centroid": _POINTS, "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(vectors.shape[1], cells, spherical=True, seed=seed + 1, **settings)
    directions = unit(vectors)
    kmeans.train(directions)
    homes: Rows = kmeans.index.search(directions, 1)[1][:, 0]
    return homes


def _representatives(vectors: Vectors, home: Rows, cells: int, members: Vectors) -> Vectors:
    """The vector (c, d) of each cell whose product with members comes closest to the best score in the cell."""
    order = np.argsort(home, kind="stable")
    filled, starts = np.unique(home[order], return_index=True)
    grouped = vectors[order]
    best = np.zeros((len(members), cells))
    for start in range(0, len(members), _BATCH):
        scores = members[start : start + _BATCH] @ grouped.T
        best[start : start + _BATCH, filled] = np.maximum.reduceat(scores, starts, axis=1)
    asked = members.astype(np.float64)
    gram = asked.T @ asked
    ridge = (1e-3 * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    return np.ascontiguousarray(np.linalg.solve(gram + ridge, asked.T @ best).T, dtype=np.float32)
