"""What an index type is, and what all of them share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from retrieval.vectors import Mask, Rows, Vectors


@dataclass(frozen=True)
class Guide:
    """Members that an index type may learn from; none of them judges what was learned."""

    queries: Vectors
    """(q, d)"""
    seed: int = 0


class Backend(ABC):
    """One way to index; holds no state, so threads share it."""

    name: str
    kind: str
    """Class name of the FAISS index in the file."""
    efforts: tuple[int, ...] = ()
    """Search efforts to try, cheapest first; none for an exact type."""
    on_gpu = False
    guided = False
    """Whether it is built from members as well as from titles."""

    @abstractmethod
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
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


def made(key: str, dim: int) -> Any:
    """An empty index of FAISS's factory, by inner product."""
    return faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT)


def likely_rows(index: Any, queries: Vectors, fetch: int, how: Any) -> Rows:
    """The rows (q, fetch) that FAISS finds with its search parameters `how`."""
    rows: Rows = index.search(queries, fetch, params=how)[1]
    return rows


def selector(allowed: Mask | None) -> Any:
    """A mask (n,) as FAISS takes it."""
    return None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def view(storage: Any) -> Vectors:
    """The vectors of a flat index without a copy, read-only because the file may be mapped; keep the index alive."""
    flat = faiss.downcast_index(storage)
    if flat.ntotal == 0:
        return np.zeros((0, flat.d), dtype=np.float32)
    vectors: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    vectors.flags.writeable = False
    return vectors
