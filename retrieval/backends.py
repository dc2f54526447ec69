"""The index types: flat, HNSW, HNSW on scalar-quantised vectors, IVF and routed IVF."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from typing_extensions import override

from retrieval import ivf_batch
from retrieval.vectors import Mask, Rows, Vectors, unit
from stores.errors import UsageError


@dataclass(frozen=True)
class TrainQueries:
    """Members that an index type may learn from; none of them judges what was learned."""

    queries: Vectors
    """(q, d)"""
    seed: int = 0


class Backend(ABC):
    """One way to index; holds no state, so threads share it."""

    name: str
    kind: str
    """Class name of the FAISS index in the file."""
    search_efforts: tuple[int, ...] = ()
    """Search efforts to try, cheapest first; none for an exact type."""
    on_gpu = False
    guided = False
    """Whether it is built from members as well as from titles."""

    @abstractmethod
    def build(self, vectors: Vectors, guide: TrainQueries | None = None) -> Any:
        """A FAISS index of the vectors (n, d), in row order."""

    @abstractmethod
    def vectors(self, index: Any) -> Vectors:
        """The full vectors (n, d) that the index holds; a view where FAISS allows it."""

    @abstractmethod
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        """`fetch` likely rows (q, fetch) for each query, allowed ones only, −1 where none was found."""

    @abstractmethod
    def set_search_effort(self, index: Any, effort: int) -> None:
        """Write the effort into the index, so that plain `faiss.read_index` users get it."""

    def bytes_per_title(self, dim: int) -> int:
        """Roughly what one title takes in memory."""
        return 4 * dim


def create_index(key: str, dim: int) -> Any:
    """An empty index of FAISS's factory, by inner product."""
    return faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT)


def likely_rows(index: Any, queries: Vectors, fetch: int, how: Any) -> Rows:
    """The rows (q, fetch) that FAISS finds with its search parameters `how`."""
    rows: Rows = index.search(queries, fetch, params=how)[1]
    return rows


def id_selector(allowed: Mask | None) -> Any:
    """A mask (n,) as FAISS takes it."""
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def flat_vectors(storage: Any) -> Vectors:
    """The vectors of a flat index without a copy, read-only because the file may be mapped; keep the index alive."""
    flat = faiss.downcast_index(storage)
    if flat.ntotal == 0:
        return np.zeros((0, flat.d), dtype=np.float32)
    vectors: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    vectors.flags.writeable = False
    return vectors


class IvfFlat(Backend):
    """Vectors in cells around centroids, of which the nearest few are looked through."""

    name, kind, on_gpu = "ivf_flat", "IndexIVFFlat", True
    search_efforts: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)

    @override
    def build(self, vectors: Vectors, guide: TrainQueries | None = None) -> Any:
        cells = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39))  # FAISS asks for 39 points a cell
        index = create_index(f"IVF{cells},Flat", vectors.shape[1])
        index.train(vectors)
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        whole: Vectors = index.reconstruct_n(0, index.ntotal)
        return whole

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersIVF(nprobe=min(effort, index.nlist), sel=id_selector(allowed))
        return likely_rows(index, queries, fetch, how)

    @override
    def set_search_effort(self, index: Any, effort: int) -> None:
        index.nprobe = min(effort, index.nlist)

    @override
    def bytes_per_title(self, dim: int) -> int:
        return 2 * 4 * dim + 8  # the lists, and the vectors in row order


_TRAIN_BATCH = 256
"""With fewer queries a cell has too few readers for a matrix product to pay."""
_MAX_CELLS = 8192
"""So many queries at a time: what is known of each query and cell has to fit in memory."""
_MIN_TRAIN_QUERIES = 1024
"""Members from whom representatives are learned; each has as many numbers to learn as a vector has."""
_KMEANS_ROUNDS, _POINTS_PER_CELL = 8, 64  # of k-means, and titles a cell that it looks at


class IvfRouted(IvfFlat):
    """Cells of titles, routed by what members want; effort is how many cells a query reads."""

    name, guided = "ivf_routed", True
    search_efforts = tuple(cells * 2**octave for octave in range(8) for cells in (4, 5, 6, 7))  # 4 to 896

    @override
    def build(self, vectors: Vectors, guide: TrainQueries | None = None) -> Any:
        if guide is None or len(guide.queries) < 2:
            raise UsageError("ivf_routed learns from members", expected="member vectors to guide it")
        cells = max(1, int(len(vectors) ** 0.5))
        home = _assign_cells(vectors, cells, guide.seed)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        quantizer.add(_routing_vectors(vectors, home, cells, unit(guide.queries[:_MIN_TRAIN_QUERIES])))
        index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        index.is_trained = True
        index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(home))
        # written and read at once, because what is read owns its parts
        return faiss.deserialize_index(faiss.serialize_index(index))

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        if len(queries) < _TRAIN_BATCH:
            return super().search(index, queries, fetch, effort, allowed)
        parts = np.split(queries, range(_MAX_CELLS, len(queries), _MAX_CELLS))
        return np.concatenate(
            [ivf_batch.search_batch(index, part, fetch, min(effort, index.nlist), allowed) for part in parts]
        )


def _assign_cells(vectors: Vectors, cells: int, seed: int) -> Rows:
    """The cell (n,) of each title, by direction."""
    settings = {"niter": _KMEANS_ROUNDS, "max_points_per_centroid": _POINTS_PER_CELL, "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(vectors.shape[1], cells, spherical=True, seed=seed + 1, **settings)
    directions = unit(vectors)
    kmeans.train(directions)
    homes: Rows = kmeans.index.search(directions, 1)[1][:, 0]
    return homes


def _routing_vectors(vectors: Vectors, home: Rows, cells: int, members: Vectors) -> Vectors:
    """The vector (c, d) of each cell whose product with members comes closest to the best score in the cell."""
    order = np.argsort(home, kind="stable")
    filled, starts = np.unique(home[order], return_index=True)
    grouped = vectors[order]
    best = np.zeros((len(members), cells))
    for start in range(0, len(members), _TRAIN_BATCH):
        scores = members[start : start + _TRAIN_BATCH] @ grouped.T
        best[start : start + _TRAIN_BATCH, filled] = np.maximum.reduceat(scores, starts, axis=1)
    asked = members.astype(np.float64)
    gram = asked.T @ asked
    ridge = (1e-3 * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    return np.ascontiguousarray(np.linalg.solve(gram + ridge, asked.T @ best).T, dtype=np.float32)


class Flat(Backend):
    """All vectors, compared one by one."""

    name, kind, on_gpu = "flat", "IndexFlatIP", True

    @override
    def build(self, vectors: Vectors, guide: TrainQueries | None = None) -> Any:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return flat_vectors(index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        return likely_rows(index, queries, fetch, faiss.SearchParameters(sel=id_selector(allowed)))

    @override
    def set_search_effort(self, index: Any, effort: int) -> None:
        pass  # there is nothing to trade


class Hnsw(Backend):
    """A navigable small-world graph over full vectors (Malkov and Yashunin 2018)."""

    name, kind = "hnsw", "IndexHNSWFlat"
    search_efforts = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    key = "HNSW32,Flat"

    @override
    def build(self, vectors: Vectors, guide: TrainQueries | None = None) -> Any:
        index = create_index(self.key, vectors.shape[1])
        self.graph(index).hnsw.efConstruction = 80
        index.train(vectors)
        index.add(vectors)
        return index

    def graph(self, index: Any) -> Any:
        """The part of the index that holds the graph."""
        return index

    @override
    def vectors(self, index: Any) -> Vectors:
        return flat_vectors(index.storage)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        how = faiss.SearchParametersHNSW(efSearch=max(effort, fetch), sel=id_selector(allowed))
        return likely_rows(self.graph(index), queries, fetch, how)

    @override
    def set_search_effort(self, index: Any, effort: int) -> None:
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
        return flat_vectors(index.refine_index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        return super().search(index, queries, 2 * fetch, effort, allowed)

    @override
    def set_search_effort(self, index: Any, effort: int) -> None:
        super().set_search_effort(index, effort)
        index.k_factor = 2

    @override
    def bytes_per_title(self, dim: int) -> int:
        return super().bytes_per_title(dim) + dim


BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Flat(), Hnsw(), HnswSq8(), IvfFlat(), IvfRouted())
}
