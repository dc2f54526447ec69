"""Loops that NumPy would need several passes for, compiled when they first run; in them a job spends its time.

Importing this takes a third of a second, the first run on a machine two more, so only what answers many queries does.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int64, njit, uint32, uint64

_NONE, _ONE, _LAST = uint64(0), uint64(1), uint64(56)
_BYTE = uint64(0x0001020304050607)
"""Times a one in the i-th byte, this has i in its last byte."""


def _jit(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compiled beside other threads, and kept for the next process where there is a folder to write to."""

    def made(loop: Callable[..., None]) -> Callable[..., None]:
        try:
            return njit(loop, nogil=True, cache=True, **options)  # type: ignore[no-any-return]
        except RuntimeError:
            return njit(loop, nogil=True, **options)  # type: ignore[no-any-return]

    return made


@_jit()
def mask_excluded(scores: Any, first: int, stride: int, ends: Any, rows: Any) -> None:
    """Write −∞ over the scores (q, w) of titles `first`, `first + stride`, … that are among a query's `rows`.

    Those of query i are `rows[ends[i - 1] : ends[i]]`.
    """
    begin, step = 0, uint32(stride)
    for query in range(len(scores)):
        for entry in range(begin, ends[query]):
            row = uint32(rows[entry])
            place = row // step
            if row % step == uint32(first) and place < scores.shape[1]:
                scores[query, place] = -np.inf
        begin = ends[query]


@_jit()
def collect_above(scores: Any, bar: Any, first: int, stride: int, rows: Any, values: Any, count: Any) -> None:
    """Append to each query's list what reaches its bar: titles `first`, `first + stride`, … have `scores` (q, w).

    Scores, `bar` (q,) and `values` (q, room) are float32; `rows` (q, room) and `count` (q,), how long each list is, are
    int64. A list that might have no room for eight more gets the count −1.
    """
    width, room = scores.shape[1], rows.shape[1]
    words = np.zeros(-(-width // 8), np.uint64)
    marks = words.view(np.uint8)
    for query in range(len(scores)):
        mine, least, found = scores[query], bar[query], count[query]
        if found < 0:
            continue
        for place in range(width):
            marks[place] = mine[place] >= least
        for eighth in range(len(words)):
            word = words[eighth]
            if word == _NONE:
                continue
            if found + 8 > room:
                found = -1
                break
            while word != _NONE:
                lowest = word & (~word + _ONE)
                place = 8 * eighth + int64((lowest * _BYTE) >> _LAST)
                rows[query, found] = first + stride * place
                values[query, found] = mine[place]
                found += 1
                word ^= lowest
        count[query] = found


@_jit()
def drop_below(limit: Any, rows: Any, values: Any, count: Any) -> None:
    """Drop the rows (q, room) of each list whose value does not reach its limit (q,); values stay where they were."""
    for query in range(len(count)):
        kept, least = 0, limit[query]
        for place in range(count[query]):
            rows[query, kept] = rows[query, place]
            kept += int64(values[query, place] >= least)
        count[query] = min(kept, count[query])


@_jit(fastmath={"reassoc", "contract"})
def rescore(vectors: Any, queries: Any, rows: Any, count: Any, scores: Any) -> None:
    """Float32 scores (q, w) of the listed rows of `vectors` (n, d), summed in float64; `queries` (q, d) are float64.

    Every sum is taken in the same order, so it depends on its two vectors alone.
    """
    for query in range(len(queries)):
        asked = queries[query]
        for place in range(count[query]):
            vector = vectors[rows[query, place]]
            total = 0.0
            for entry in range(len(asked)):
                total += np.float64(vector[entry]) * asked[entry]
            scores[query, place] = np.float32(total)
