"""What changed between any two releases: entities, dimensions, neighbours, and the titles that moved.

Dimensions and places can only be compared within one space; neighbours can always, because they do not
depend on the coordinates. Everything is measured on common titles and a sample of common members.
"""

from typing import Any

import numpy as np

from stores.feast.feature_views import EMBEDDINGS
from stores.feast.release_diff import iter_diffs
from stores.releases.release import Release
from validation.config import DriftThresholds
from validation.drift import beyond_chance, identity, neighbour_overlap
from validation.release_pairs import TINY, Pair, Places, Titles, cosines, nearest, pair, spread
from validation.statistics import Floats

MOVED, NEIGHBOURS = 20, 5


def diff_releases(before: Release, after: Release, thresholds: DriftThresholds) -> dict[str, Any]:
    """JSON-able facts: `members` and `titles` counts, and what `_compared` adds where the widths are equal."""
    facts: dict[str, Any] = {
        "before": before.release_id,
        "after": after.release_id,
        "same_space": before.space_id == after.space_id,
        "same_model": before.manifest.model_id == after.manifest.model_id,
    }
    for kind in EMBEDDINGS:
        found = iter_diffs(kind, before, after, by_value=True)
        parts = [_counted(delta.upserts.num_rows, len(delta.departed)) for delta in found]
        sizes = {name: _rows(release, kind.folder) for name, release in (("before", before), ("after", after))}
        facts[kind.folder] = {**sizes, **_counted(*(sum(part[name] for part in parts) for name in ("changed", "left")))}
    both = pair(after, before, thresholds.sample)
    return facts | (_compared(both, facts["same_space"], thresholds) if both else {})


def _counted(changed: int, left: int) -> dict[str, int]:
    """`changed` counts vectors that are new or differ in any bit."""
    return {"changed": changed, "left": left}


def _rows(release: Release, folder: str) -> int:
    return sum(entry.rows for entry in release.manifest.files if entry.path.startswith(f"{folder}/"))


def _compared(both: Pair, same_space: bool, thresholds: DriftThresholds) -> dict[str, Any]:
    overlap = neighbour_overlap(both, thresholds)
    found: dict[str, Any] = {
        "common_titles": len(both.now.ids),
        "neighbour_jaccard": float(overlap.mean()),
        "neighbours_beyond_chance": beyond_chance(overlap, len(both.now.ids), thresholds.neighbours),
    }
    if not same_space:
        rows = spread(len(both.now.ids), thresholds.sample)
        return {**found, "moved": _named(both, rows[np.argsort(overlap, kind="stable")[:MOVED]], None)}
    moved = cosines(both.now.vectors, both.before.vectors)
    if len(both.members_now) > 1:
        found["member_identity"] = identity(both.members_now, both.members_before)
        found["member_cosine_p50"] = float(np.median(cosines(both.members_now, both.members_before)))
    return {
        **found,
        "title_cosine_p50": float(np.median(moved)),
        "moved_share": float((moved < thresholds.moved_cosine).mean()),
        "dimensions": dimensions(both.now.vectors, both.before.vectors),
        "moved": _named(both, farthest(both, moved, thresholds)[:MOVED], moved),
    }


def dimensions(now: Floats, before: Floats) -> list[dict[str, Any]]:
    """Of each dimension of (n, d) vectors: its share of the energy before and now, and how its values correlate."""
    energy = [(x**2).sum(axis=0) / max(float((x**2).sum()), TINY) for x in (before, now)]
    a, b = (x - x.mean(axis=0) for x in (before, now))
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    correlation = (a * b).sum(axis=0) / np.maximum(size, TINY)
    return [
        {
            "dimension": at,
            "energy_before": float(energy[0][at]),
            "energy_after": float(energy[1][at]),
            "correlation": float(correlation[at]) if size[at] > TINY else None,
        }
        for at in range(now.shape[1])
    ]


def farthest(both: Pair, moved: Floats, thresholds: DriftThresholds) -> Places:
    """Titles by how far they moved: best-known that moved, then others that did, then best-known that stayed.

    The others only where few titles moved: after a retraining many that hardly anybody played move by noise.
    """
    known = np.isin(np.arange(len(moved)), well_known(both.now))
    gone = moved < thresholds.moved_cosine
    if gone.sum() > MOVED:
        gone &= known
    order = np.lexsort((moved, np.where(gone & known, 0, np.where(gone, 1, 2))))
    return np.asarray(order[(gone | known)[order]], np.int64)


def well_known(titles: Titles) -> Places:
    """The best-known quarter of the titles; those that hardly anybody played move by noise, and say little as names."""
    return np.asarray(np.flatnonzero(titles.plays >= np.quantile(titles.plays, 0.75)), np.int64)


def neighbours(titles: Titles, rows: Places, among: Places) -> Places:
    """The NEIGHBOURS nearest to each of `rows` (well-known ones) among others, as rows of `titles`."""
    places = np.searchsorted(among, rows)
    return np.asarray(among[nearest(titles.vectors[among], places, NEIGHBOURS)])


def _named(both: Pair, rows: Places, moved: Floats | None) -> list[dict[str, Any]]:
    """Titles with the names of their neighbours before and after."""
    among = np.union1d(well_known(both.now), rows)
    now, before = (neighbours(side, rows, among) for side in (both.now, both.before))
    names = both.now.names
    return [
        {
            "title_id": both.now.ids[row],
            "name": names[row],
            "cosine": None if moved is None else float(moved[row]),
            "was_near": [names[i] for i in before[at]],
            "is_near": [names[i] for i in now[at]],
        }
        for at, row in enumerate(rows.tolist())
    ]
