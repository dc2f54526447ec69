"""Batches that do not fit into memory: each half of one again, after what the attempt held is free.

An exception holds the frames that it passed, and these the tensors of the attempt; so nothing may be tried again within
the `except`, where the exception lives. CUDA's allocator and Python's cycles keep their share until they are asked.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
_CPU_ALLOCATOR = "can't allocate memory"
"""What torch's RuntimeError says where the host has no more; only that of a device has a class of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no more memory: errors of Python, NumPy, Arrow and torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def free_memory() -> None:
    """Free what failed attempts left: cycles of Python, and the blocks that CUDA's allocator keeps."""
    gc.collect()
    torch: Any = sys.modules.get("torch")  # without it there is nothing on a device
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(encode: Callable[[Rows], None], rows: Rows) -> None:
    """`encode` rows; where they do not fit into memory, each half of them.

    Raises MemoryError where one row alone needs too much, and whatever else `encode` raises.
    """
    pending = [rows]
    while pending:
        part = pending.pop()
        if _fits(encode, part):
            continue
        free_memory()
        if len(part) == 1:
            raise MemoryError("one member alone does not fit into memory")
        first, second = np.array_split(part, 2)
        pending += [second, first]


def _fits(encode: Callable[[Rows], None], rows: Rows) -> bool:
    try:
        encode(rows)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
