"""The indexes that a user would reach for, each as its documentation builds it: what `search.py` compares with."""

import importlib.util
from collections.abc import Callable, Iterator

import faiss
import numpy as np

DIM, K = 64, 10
Search = Callable[[np.ndarray, int], np.ndarray]
"""Rows (q, 10) for queries (q, 64) and an effort."""


def faiss_key(vectors: np.ndarray, key: str, knob: str) -> Search:
    """An index of FAISS's factory, with its efSearch or nprobe as the effort."""
    index = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        faiss.ParameterSpace().set_index_parameter(index, knob, effort)
        return index.search(queries, K)[1]

    return search


def hnswlib(vectors: np.ndarray) -> Search:
    """hnswlib with M 16 and efConstruction 200, its documented defaults."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
    index.add_items(vectors)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        index.set_ef(effort)
        return index.knn_query(queries, k=K)[0]

    return search


def usearch(vectors: np.ndarray) -> Search:
    """usearch in float32 with its default connectivity."""
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        index.expansion_search = effort
        return index.search(queries, K).keys

    return search


def voyager(vectors: np.ndarray) -> Search:
    """voyager with its default M and ef_construction."""
    from voyager import Index, Space

    index = Index(Space.InnerProduct, num_dimensions=DIM)
    index.add_items(np.array(vectors, np.float32))  # refuses vectors that are read-only
    return lambda queries, effort: index.query(queries, k=K, query_ef=effort)[0]


def autofaiss(vectors: np.ndarray) -> Search:
    """The index that autofaiss builds with its defaults."""
    from autofaiss import build_index

    index = build_index(vectors, save_on_disk=False, metric_type="ip", verbose=40)[0]
    knob = "nprobe" if "IVF" in type(faiss.downcast_index(index)).__name__ else "efSearch"

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        faiss.ParameterSpace().set_index_parameter(index, knob, effort)
        return index.search(queries, K)[1]

    return search


def peers(titles: int, wanted: list[str] | None) -> Iterator[tuple[str, Callable[[np.ndarray], Search]]]:
    """Peers that are installed, of those wanted; says which are not."""
    cells = int(4 * titles**0.5)
    keys = {"faiss_hnsw32": ("HNSW32", "efSearch"), "faiss_ivf": (f"IVF{cells},Flat", "nprobe")}
    for name, (key, knob) in keys.items():
        if wanted is None or name in wanted:
            yield name, lambda vectors, key=key, knob=knob: faiss_key(vectors, key, knob)  # type: ignore[misc]
    for name, build in (("hnswlib", hnswlib), ("usearch", usearch), ("voyager", voyager), ("autofaiss", autofaiss)):
        if wanted is not None and name not in wanted:
            continue
        if importlib.util.find_spec(name):
            yield name, build
        else:
            print(f"{name} is not installed and left out; it is in the extra [bench]")
