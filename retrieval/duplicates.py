"""Near-duplicates in a list of answers: of titles that are almost the same, only the best is kept."""

from collections.abc import Callable

import numpy as np

from retrieval.vectors import Rows, Scores, Vectors, unit

Search = Callable[[int], tuple[Rows, Scores]]
"""Rows and scores (q, k) for a k."""


def distinct(search: Search, vectors: Vectors, k: int, alike: float) -> tuple[Rows, Scores]:
    """Rows and scores (q, k) of which no two have a cosine of `alike` or more; −1 and −inf where none is left.

    A title gives way to a better-placed one. More is asked for until k are left or there is no more.
    """
    fetch = k
    while True:
        fetch = min(2 * fetch, len(vectors))
        rows, scores = search(fetch)
        kept = [_kept(vectors, row[row >= 0], k, alike) for row in rows]
        short = [len(some) < k and (row >= 0).all() for some, row in zip(kept, rows, strict=True)]
        if fetch == len(vectors) or not any(short):
            return _filled(rows, scores, kept, k)


def _kept(vectors: Vectors, rows: Rows, k: int, alike: float) -> list[int]:
    """Places of the rows that are kept."""
    directions = unit(vectors[rows])
    kept: list[int] = []
    for place in range(len(rows)):
        if len(kept) == k:
            break
        if not kept or float((directions[kept] @ directions[place]).max()) < alike:
            kept.append(place)
    return kept


def _filled(rows: Rows, scores: Scores, kept: list[list[int]], k: int) -> tuple[Rows, Scores]:
    best = np.full((len(rows), k), -1, dtype=np.int64)
    values = np.full((len(rows), k), -np.inf, dtype=np.float32)
    for query, places in enumerate(kept):
        best[query, : len(places)], values[query, : len(places)] = rows[query, places], scores[query, places]
    return best, values
