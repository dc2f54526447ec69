"""Who is an anchor, and which anchors are held out: by a hash of the id, so alike on every night."""

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HELD_OUT = 5
"""One anchor in five measures, the others fit."""


def hashes(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A uniform 64-bit number per id, (n,), from its text: whether ids are integers or strings does not matter."""
    digests = (hashlib.blake2b(str(value).encode(), digest_size=8).digest() for value in ids.to_pylist())
    return np.frombuffer(b"".join(digests), dtype="<u8")


def held_out(ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which anchors measure instead of fitting, (n,)."""
    return np.asarray(hashes(ids) % np.uint64(HELD_OUT) == 0)


def shards_for(paths: list[str], rows: int, wanted: int) -> list[str]:
    """The first shards that together hold about `wanted` of `rows` rows: shards are themselves random by id."""
    if rows <= wanted:
        return paths
    return paths[: max(1, -(-wanted * len(paths) // rows))]
