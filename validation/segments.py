"""Drift by segment of the catalogue: the whole may look healthy while one genre, or the tail, has left its place.

Segments are the genres and the thirds by plays. Each is compared within one space, title by title.
"""

from typing import Any

import numpy as np

from stores.columns import TITLE_ID
from stores.release import Release
from validation.geometry import Places, cosines
from validation.pairs import Pair
from validation.thresholds import DriftThresholds

THIRDS = ("most played third", "middle third", "least played third")


def segment_figures(both: Pair, release: Release, thresholds: DriftThresholds) -> dict[str, Any]:
    """`segments`, most moved first, and `segment_moved_share`, that of the first; empty where all are too small."""
    moved = cosines(both.now.vectors, both.before.vectors)
    found = [
        {
            "segment": name,
            "titles": len(rows),
            "cosine_p50": float(np.median(moved[rows])),
            "moved_share": float((moved[rows] < thresholds.moved_cosine).mean()),
        }
        for name, rows in _segments(both, release).items()
        if len(rows) >= thresholds.least_segment
    ]
    found.sort(key=lambda entry: -float(str(entry["moved_share"])))
    return {"segments": found, "segment_moved_share": found[0]["moved_share"]} if found else {}


def _segments(both: Pair, release: Release) -> dict[str, Places]:
    """The rows of each segment; a title is in one third and in each of its genres."""
    order = np.argsort(-both.before.plays, kind="stable").astype(np.int64)
    found: dict[str, Places] = dict(zip(THIRDS, np.array_split(order, len(THIRDS)), strict=True))
    place = {title: row for row, title in enumerate(both.now.ids)}
    table = release.table("titles", [TITLE_ID, "genres"])
    rows: dict[str, list[int]] = {}
    for title, genres in zip(table[TITLE_ID].to_pylist(), table["genres"].to_pylist(), strict=True):
        for genre in {genre for genre in genres or [] if genre} if title in place else ():
            rows.setdefault(genre, []).append(place[title])
    return found | {genre: np.array(sorted(at), np.int64) for genre, at in sorted(rows.items())}
