"""Directions, cosines and exact neighbours of a few thousand vectors."""

import numpy as np
import numpy.typing as npt

from validation.statistics import Floats

Places = npt.NDArray[np.int64]
TINY = 1e-12


def cosines(x: Floats, y: Floats) -> Floats:
    """The cosine of each row of `x` with the same row of `y`; 0 where one of them is zero."""
    return np.asarray(np.einsum("ij,ij->i", unit(x), unit(y)))


def unit(x: Floats) -> Floats:
    """Rows at length 1; zero rows stay zero."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY))


def nearest(x: Floats, rows: Places, k: int) -> Places:
    """The `k` rows nearest to each of `rows` by cosine, best first, the row itself left out; (len(rows), k)."""
    k = min(k, len(x) - 1)
    directions = unit(x)
    out = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        scores = directions[part] @ directions.T
        scores[np.arange(len(part)), part] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        out[start : start + len(part)] = np.take_along_axis(best, order, axis=1)
    return out


def spread(count: int, wanted: int) -> Places:
    """At most `wanted` places spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))
