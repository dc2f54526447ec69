"""Work spread over threads: as many as FAISS uses, so that one setting holds for both."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faiss

Item = TypeVar("Item")


def spread(work: Callable[[Item], Any], items: Sequence[Item]) -> list[Any]:
    """What `work` gives for each item, in any order. NumPy lets other threads run while it computes.

    `faiss.omp_set_num_threads` says how many threads there are. NumPy's own threads gain nothing beside them:
    `OPENBLAS_NUM_THREADS=1` keeps the two from waiting for one another.
    """
    threads = min(faiss.omp_get_max_threads(), len(items))
    if threads < 2:
        return [work(item) for item in items]

    def share(first: int) -> list[Any]:
        return [work(item) for item in items[first::threads]]

    with ThreadPoolExecutor(threads) as pool:
        return [done for part in pool.map(share, range(threads)) for done in part]
