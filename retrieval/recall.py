"""Recall against the exact oracle, with an interval that says how sure the figure is."""

import math

import numpy as np
import numpy.typing as npt

from retrieval.vectors import Mask, Rows, Scores
from stores.settings import Settings

_Z_95 = 1.959963984540054  # two-sided 95 %


class Recall(Settings):
    """Mean recall@k over real queries and its 95 % interval."""

    k: int
    queries: int
    value: float
    low: float
    high: float


def recall_of_scores(found: Scores, expected: Scores) -> Recall | None:
    """Recall@k of exact scores `found` (q, k) against the oracle's `expected` (q, k); None without queries.

    A title counts when its score reaches the oracle's k-th, so that a tie is no miss. Queries for which
    nothing exists count for nothing.
    """
    there = np.isfinite(expected)
    asked = there.any(axis=1)
    if not asked.any():
        return None
    there, found, expected = there[asked], found[asked], expected[asked]
    worst = np.where(there, expected, np.inf).min(axis=1, keepdims=True)
    share = np.minimum((np.isfinite(found) & (found >= worst)).sum(axis=1) / there.sum(axis=1), 1.0)
    low, high = wilson_interval(share, found.shape[1])
    return Recall(k=found.shape[1], queries=len(share), value=float(share.mean()), low=low, high=high)


def recall_of_slice(found: Scores, rows: Rows, expected: Scores, kind: Mask) -> Recall | None:
    """Recall of those of the oracle's `rows` and `expected` scores (q, k) that are of a kind (n,) of title.

    Queries that want none of it count for nothing; None where there is no other. `found` are the scores (q, k) of
    the search that is judged: scores are exact, so whoever has a title's score has found it, or one as good.
    """
    there = (rows >= 0) & kind[rows] if len(kind) else np.zeros(rows.shape, dtype=bool)
    asked = there.any(axis=1)
    if not asked.any():
        return None
    hit = there[asked] & (found[asked, None, :] == expected[asked, :, None]).any(axis=2)
    share = hit.sum(axis=1) / there[asked].sum(axis=1)
    low, high = wilson_interval(share, rows.shape[1])
    return Recall(k=rows.shape[1], queries=len(share), value=float(share.mean()), low=low, high=high)


def wilson_interval(shares: npt.NDArray[np.float64], k: int) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) for the mean of shares (q,) of k each.

    The k answers to a query are not independent, so the sample size is the effective one, p(1−p)/s²
    per query, kept within [1, k]; with no variance at all it is one per query, the cautious end.
    """
    mean = float(shares.mean())
    variance = float(shares.var(ddof=1)) if len(shares) > 1 else 0.0
    each = min(max(mean * (1 - mean) / variance, 1.0), float(k)) if variance > 0 else 1.0
    size = len(shares) * each
    centre = (mean + _Z_95**2 / (2 * size)) / (1 + _Z_95**2 / size)
    half = _Z_95 / (1 + _Z_95**2 / size) * math.sqrt(mean * (1 - mean) / size + _Z_95**2 / (4 * size**2))
    return min(max(0.0, centre - half), mean), max(min(1.0, centre + half), mean)
