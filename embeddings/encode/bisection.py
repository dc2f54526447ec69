"""Encode a batch that fails in halves: where memory is short, and to find the rows that an encoder refuses.

An exception holds the frames that it passed, and these the tensors of the attempt; so nothing may be tried again within
the `except`, where the exception lives. CUDA's allocator and Python's cycles keep their share until they are asked.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.encode.encoder import UNUSABLE_OUTPUT, Vectors, to_float32
from stores.errors import EncoderError

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


def encode_in_halves(encode: Callable[[Rows], None], rows: Rows) -> None:
    """`encode` rows; where they do not fit into memory, each half of them.

    Raises MemoryError where one row alone needs too much, and whatever else `encode` raises.
    """
    pending = [rows]
    while pending:
        part = pending.pop()
        if _try_encode(encode, part):
            continue
        free_memory()
        if len(part) == 1:
            raise MemoryError("one member alone does not fit into memory")
        first, second = np.array_split(part, 2)
        pending += [second, first]


def _try_encode(encode: Callable[[Rows], None], rows: Rows) -> bool:
    try:
        encode(rows)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


OUT_OF_MEMORY = "out of memory"
Refusal = tuple[int, str]


def encode_rows(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> tuple[Vectors, list[Refusal]]:
    """Encode a batch; where that fails, halve it until the bad rows stand alone.

    Returns vectors (n, dim) float32, with zeros where a row is bad, and for each bad row its
    position in `rows` and the reason. A sound batch costs one call. What `encode` returns is converted as in
    `encoder_output`, and copied: it may be a buffer that the next call fills anew.
    """
    vectors = np.zeros((rows.num_rows, dim), np.float32)
    refused: list[Refusal] = []
    pending = [(0, rows.num_rows)]
    while pending:
        start, stop = pending.pop()
        found, reason = _attempt(encode, rows.slice(start, stop - start), dim)
        if reason == OUT_OF_MEMORY:
            free_memory()
        if found is not None:
            vectors[start:stop] = found
        elif stop - start == 1:
            refused.append((start, reason))
        else:
            middle = (start + stop) // 2
            pending += [(middle, stop), (start, middle)]
    return vectors, sorted(refused)


def encode_or_nan(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> Vectors:
    """As `encode_rows`, with NaN where a row is bad: for questions, where no answer is a wrong answer."""
    vectors, refused = encode_rows(encode, rows, dim)
    vectors[[position for position, _ in refused]] = np.nan
    return vectors


def answers(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> Vectors:
    """As `encode_or_nan`. Raises EncoderError where the encoder fails on all rows."""
    vectors, refused = encode_rows(encode, rows, dim)
    if refused and len(refused) == rows.num_rows:
        raise EncoderError(f"the encoder fails on all of {rows.num_rows:,} rows: {refused[0][1]}")
    vectors[[position for position, _ in refused]] = np.nan
    return vectors


def _attempt(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> tuple[Vectors | None, str]:
    if rows.num_rows == 0:
        return np.zeros((0, dim), np.float32), ""
    try:
        vectors = to_float32(encode(rows))
    except Exception as error:  # any model may raise anything; the reason is kept with the row, not what it holds
        if is_out_of_memory(error):
            return None, OUT_OF_MEMORY
        return None, f"{type(error).__name__}: {error}"
    if vectors.shape != (rows.num_rows, dim):
        return None, f"{UNUSABLE_OUTPUT} shape {vectors.shape}, expected {(rows.num_rows, dim)}"
    if not np.isfinite(vectors).all():
        return None, "the vector is not finite"
    return vectors, ""
