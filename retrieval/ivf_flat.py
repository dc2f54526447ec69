"""`ivf_flat`: vectors in cells around centroids, of which the nearest few are looked through."""

from typing import Any

import faiss
from typing_extensions import override

from retrieval.backend import Backend, Guide, likely_rows, made, selector
from retrieval.vectors import Mask, Rows, Vectors


class IvfFlat(Backend):
    """Vectors in cells around centroids, of which the nearest few are looked through."""

    name, kind, on_gpu = "ivf_flat", "IndexIVFFlat", True
    efforts: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)

    @override
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
        cells = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))  # FAISS asks for 39 points a cell
        index = made(f"IVF{cells},Flat", vectors.shape[1])
        index.train(vectors)
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        whole: Vectors = index.reconstruct_n(0, index.ntotal)
        return whole

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersIVF(nprobe=min(effort, index.nlist), sel=selector(allowed))
        return likely_rows(index, queries, fetch, how)

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        index.nprobe = min(effort, index.nlist)

    @override
    def bytes_per_title(self, dim: int) -> int:
        return 2 * 4 * dim + 8  # the lists, and the vectors in row order
