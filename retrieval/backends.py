"""The index types, one small class each; adding one is adding a class and its name in `BACKENDS`.

All are plain FAISS indexes by inner product. Each keeps the full vectors inside its one file, because
scores are computed from them and exact search falls back on them.
"""

from abc import ABC, abstractmethod
from typing import Any

import faiss
import numpy as np
from typing_extensions import override

from retrieval.vectors import Mask, Rows, Vectors


class Backend(ABC):
    """One way to index; holds no state, so threads share it."""

    name: str
    kind: str
    """Class name of the FAISS index in the file."""
    efforts: tuple[int, ...] = ()
    """Search efforts to try, cheapest first; none for an exact type."""
    on_gpu = False

    @abstractmethod
    def build(self, vectors: Vectors) -> Any:
        """A FAISS index of the vectors (n, d), in row order."""

    @abstractmethod
    def vectors(self, index: Any) -> Vectors:
        """The full vectors (n, d) that the index holds; a view where FAISS allows it."""

    @abstractmethod
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        """`fetch` likely rows (q, fetch) for each query, allowed ones only, −1 where none was found."""

    @abstractmethod
    def set_effort(self, index: Any, effort: int) -> None:
        """Write the effort into the index, so that plain `faiss.read_index` users get it."""

    def bytes_per_title(self, dim: int) -> int:
        """Roughly what one title takes in memory."""
        return 4 * dim


class Flat(Backend):
    """All vectors, compared one by one."""

    name, kind, on_gpu = "flat", "IndexFlatIP", True

    @override
    def build(self, vectors: Vectors) -> Any:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return _view(index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        return _rows(index, queries, fetch, faiss.SearchParameters(sel=_selector(allowed)))

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        pass  # there is nothing to trade


class Hnsw(Backend):
    """A navigable small-world graph over full vectors (Malkov and Yashunin 2018)."""

    name, kind = "hnsw", "IndexHNSWFlat"
    efforts = (16, 32, 64, 128, 256, 512)
    key = "HNSW32,Flat"

    @override
    def build(self, vectors: Vectors) -> Any:
        index = _made(self.key, vectors.shape[1])
        self.graph(index).hnsw.efConstruction = 80
        index.train(vectors)
        index.add(vectors)
        return index

    def graph(self, index: Any) -> Any:
        """The part of the index that holds the graph."""
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return _view(index.storage)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersHNSW(efSearch=max(effort, fetch), sel=_selector(allowed))
        return _rows(self.graph(index), queries, fetch, how)

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
        return _view(index.refine_index)

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


class IvfFlat(Backend):
    """Vectors in cells around centroids, of which the nearest few are looked through."""

    name, kind, on_gpu = "ivf_flat", "IndexIVFFlat", True
    efforts = (4, 8, 16, 32, 64, 128, 256)

    @override
    def build(self, vectors: Vectors) -> Any:
        cells = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))  # FAISS asks for 39 points a cell
        index = _made(f"IVF{cells},Flat", vectors.shape[1])
        index.train(vectors)
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        whole: Vectors = index.reconstruct_n(0, index.ntotal)
        return whole

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersIVF(nprobe=min(effort, index.nlist), sel=_selector(allowed))
        return _rows(index, queries, fetch, how)

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        index.nprobe = min(effort, index.nlist)

    @override
    def bytes_per_title(self, dim: int) -> int:
        return 2 * 4 * dim + 8  # the lists, and the vectors in row order


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Flat(), Hnsw(), HnswSq8(), IvfFlat())}


def _made(key: str, dim: int) -> Any:
    return faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT)


def _rows(index: Any, queries: Vectors, fetch: int, how: Any) -> Rows:
    rows: Rows = index.search(queries, fetch, params=how)[1]
    return rows


def _selector(allowed: Mask | None) -> Any:
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _view(storage: Any) -> Vectors:
    """The vectors of a flat index without a copy, read-only because the file may be mapped; keep the index alive."""
    flat = faiss.downcast_index(storage)
    if flat.ntotal == 0:
        return np.zeros((0, flat.d), dtype=np.float32)
    view: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    view.flags.writeable = False
    return view
