"""Find the rows that a model cannot encode, and encode all others."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from embeddings.encoder_output import UNUSABLE, Vectors, float32_of
from embeddings.memory_retry import free_memory, is_out_of_memory
from stores.errors import EncoderError

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
        vectors = float32_of(encode(rows))
    except Exception as error:  # any model may raise anything; the reason is kept with the row, not what it holds
        if is_out_of_memory(error):
            return None, OUT_OF_MEMORY
        return None, f"{type(error).__name__}: {error}"
    if vectors.shape != (rows.num_rows, dim):
        return None, f"{UNUSABLE} shape {vectors.shape}, expected {(rows.num_rows, dim)}"
    if not np.isfinite(vectors).all():
        return None, "the vector is not finite"
    return vectors, ""
