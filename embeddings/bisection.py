"""Find the rows that a model cannot encode, and encode all others."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.memory_retry import free_memory, is_out_of_memory

OUT_OF_MEMORY = "out of memory"
Vectors = NDArray[np.float32]
Refusal = tuple[int, str]


def encode_rows(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> tuple[Vectors, list[Refusal]]:
    """Encode a batch; where that fails, halve it until the bad rows stand alone.

    Returns vectors (n, dim) float32, with zeros where a row is bad, and for each bad row its
    position in `rows` and the reason. A sound batch costs one call.
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


def _attempt(encode: Callable[[pa.Table], Vectors], rows: pa.Table, dim: int) -> tuple[Vectors | None, str]:
    if rows.num_rows == 0:
        return np.zeros((0, dim), np.float32), ""
    try:
        vectors = np.asarray(encode(rows), np.float32)
    except Exception as error:  # any model may raise anything; the reason is kept with the row, not what it holds
        if is_out_of_memory(error):
            return None, OUT_OF_MEMORY
        return None, f"{type(error).__name__}: {error}"
    if vectors.shape != (rows.num_rows, dim):
        return None, f"the encoder returned shape {vectors.shape}, expected {(rows.num_rows, dim)}"
    if not np.isfinite(vectors).all():
        return None, "the vector is not finite"
    return vectors, ""
