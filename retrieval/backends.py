"""The index types, one small class each; adding one is adding a class and its name in `BACKENDS`.

All are plain FAISS indexes by inner product. Each keeps the full vectors inside its one file, because
scores are computed from them and exact search falls back on them.
"""

from typing import Any

import faiss
from typing_extensions import override

from retrieval.backend import Backend, Guide, likely_rows, made, selector, view
from retrieval.ivf_flat import IvfFlat
from retrieval.ivf_routed import IvfRouted
from retrieval.vectors import Mask, Rows, Vectors


class Flat(Backend):
    """All vectors, compared one by one."""

    name, kind, on_gpu = "flat", "IndexFlatIP", True

    @override
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return view(index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        return likely_rows(index, queries, fetch, faiss.SearchParameters(sel=selector(allowed)))

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        pass  # there is nothing to trade


class Hnsw(Backend):
    """A navigable small-world graph over full vectors (Malkov and Yashunin 2018)."""

    name, kind = "hnsw", "IndexHNSWFlat"
    efforts = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    key = "HNSW32,Flat"

    @override
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
        index = made(self.key, vectors.shape[1])
        self.graph(index).hnsw.efConstruction = 80
        index.train(vectors)
        index.add(vectors)
        return index

    def graph(self, index: Any) -> Any:
        """The part of the index that holds the graph."""
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return view(index.storage)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersHNSW(efSearch=max(effort, fetch), sel=selector(allowed))
        return likely_rows(self.graph(index), queries, fetch, how)

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        self.graph(index).hnsw.efSearch = effort

    @override
    def bytes_per_title(self, dim: int) -> int:
        return 4 * dim + 64 * 4 + 16


class HnswSq8(Hnsw):
    """The same graph over 8-bit vectors; full vectors beside it for the final scores."""

    name, kind = "hnsw_sq8", "IndexRefineFlat"
    key = "HNSW32_SQ8,RFlat"

    @override
    def graph(self, index: Any) -> Any:
        return faiss.downcast_index(index.base_index)

    @override
    def vectors(self, index: Any) -> Vectors:
        return view(index.refine_index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        return super().search(index, queries, 2 * fetch, effort, allowed)

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        super().set_effort(index, effort)
        index.k_factor = 2

    @override
    def bytes_per_title(self, dim: int) -> int:
        return super().bytes_per_title(dim) + dim


BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Flat(), Hnsw(), HnswSq8(), IvfFlat(), IvfRouted())
}
