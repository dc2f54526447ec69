"""Work spread over threads: as many as FAISS uses, so that one setting holds for both."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faiss

Item = TypeVar("Item")


def num_threads() -> int:
    """How many threads there are: `faiss.omp_set_num_threads` says."""
    return int(faiss.omp_get_max_threads())


def map_threads(work: Callable[[Item], Any], items: Sequence[Item]) -> list[Any]:
    """What `work` gives for each item, in any order. NumPy lets other threads run while it computes.

    NumPy's own threads gain nothing beside these: `OPENBLAS_NUM_THREADS=1` keeps the two from waiting for one another.
    """
    count = min(num_threads(), len(items))
    if count < 2:
        return [work(item) for item in items]

    def share(first: int) -> list[Any]:
        return [work(item) for item in items[first::count]]

    with ThreadPoolExecutor(count) as pool:
        return [done for part in pool.map(share, range(count)) for done in part]
