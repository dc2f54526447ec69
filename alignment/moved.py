"""Titles that moved: how far, and toward whom. This is news about the catalogue."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alignment.gram import Rows
from alignment.procrustes import unit_residuals

SHOWN = 20


def moved_titles(
    titles: pa.Table, aligned: Rows, reference: Rows, beyond_noise: NDArray[np.bool_], neighbours: int = 3
) -> list[dict[str, Any]]:
    """The titles that went farthest, farthest first, as plain values.

    `titles` has `title_id` and `name`, `aligned` and `reference` (n, s) their rows. `distance` is ‖x̂ − ŷ‖ of unit
    vectors (0 to 2); `toward` are the titles in whose reference neighbourhood the title is now, `from` those around
    where it was; `beyond_noise` says that it moved by much more than the typical title.
    """
    new, old = _unit(aligned), _unit(reference)
    distance = np.nan_to_num(unit_residuals(new, old))
    farthest = np.lexsort((np.arange(len(distance)), -distance))[:SHOWN]
    rows = titles.to_pylist()
    return [
        {
            "title_id": rows[i]["title_id"],
            "name": rows[i]["name"],
            "distance": round(float(distance[i]), 4),
            "beyond_noise": bool(beyond_noise[i]),
            "toward": _nearest(new[i], old, i, rows, neighbours),
            "from": _nearest(old[i], old, i, rows, neighbours),
        }
        for i in farthest.tolist()
    ]


def _nearest(vector: Rows, old: Rows, itself: int, rows: list[dict[str, Any]], count: int) -> list[Any]:
    """Names (ids where there are none) of the titles whose reference is nearest by cosine."""
    similarity = old @ vector
    similarity[itself] = -np.inf
    best = np.argsort(-similarity, kind="stable")[: min(count, len(rows) - 1)]
    return [rows[j]["name"] or rows[j]["title_id"] for j in best.tolist()]


def _unit(x: Rows) -> Rows:
    x = np.asarray(x, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norms > 0, norms, 1.0)
