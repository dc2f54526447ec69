"""FAISS indexes on GPUs: a replica on every device, or shards where one device cannot hold them.

The index on the CPU stays: it is what is saved and served, and what exact search falls back on.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np

from retrieval.vectors import Rows, Vectors
from stores.errors import UsageError

MAX_GPU_K = 2048
"""Largest k and nprobe of FAISS's classic GPU indexes (`getMaxKSelection` in gpu/utils/DeviceDefs.cuh)."""


def num_gpus() -> int:
    """How many GPUs FAISS sees; 0 with a build that knows none."""
    return int(faiss.get_num_gpus())


@dataclass(frozen=True)
class GpuCopy:
    """A copy of a Flat or IVF index on every GPU. A lock orders searches, because they share temporary memory."""

    index: Any
    limit: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, index: Any) -> "GpuCopy":
        """Copy an index to all GPUs. Raises UsageError where FAISS sees none."""
        if num_gpus() == 0:
            raise UsageError("FAISS sees no GPU", fix='install samespace with ".[gpu]" on a machine that has one')
        try:
            copy = _copy_to_gpus(index, shard=False)
        except RuntimeError:  # FAISS tells by this that the memory of one device does not do
            if num_gpus() == 1:
                raise
            copy = _copy_to_gpus(index, shard=True)
        return cls(copy, min(MAX_GPU_K, int(index.ntotal)))

    def search(self, queries: Vectors, fetch: int, nprobe: int) -> Rows:
        """Up to `fetch` rows (q, at most `limit`) for each query; filters are the caller's."""
        fetch = min(fetch, self.limit)
        with self._lock:
            if nprobe:
                faiss.GpuParameterSpace().set_index_parameter(self.index, "nprobe", min(nprobe, MAX_GPU_K))
            rows: Rows = self.index.search(np.ascontiguousarray(queries), fetch)[1]
        return rows


def _copy_to_gpus(index: Any, shard: bool) -> Any:
    options = faiss.GpuMultipleClonerOptions()
    options.shard = shard
    return faiss.index_cpu_to_all_gpus(index, co=options)
