"""Drift between a release and the live one in the same space, overall and by segment, in constant memory.

- Population stability index: `Σ (qᵢ − pᵢ) ln(qᵢ / pᵢ)` over the reference's deciles (Siddiqi,
  "Credit Risk Scorecards", 2006): below 0.1 no shift, above 0.25 a shift.
- Neighbour churn: the Jaccard overlap of each sampled title's nearest titles (cosine, exact).
- Member identity: how often a sampled member is closer (cosine) to the own place before than another
  sampled member's place now is; 1 where everyone stayed, 0.5 where ids were mixed up.
- Popularity: Spearman's rank correlation of plays and the mean score over sampled members.
"""

from typing import Any

import numpy as np

from stores.releases.release import Release
from stores.schema import TITLE_ID
from validation.config import DriftThresholds
from validation.release_pairs import TINY, Pair, Places, cosines, nearest, spread, unit_rows
from validation.statistics import Floats, whole_histogram

FEW, OTHERS = 20, 16
"""Below FEW members their identity says nothing; each is compared with OTHERS others."""
CHI_SQUARED_9 = 27.88
"""The 99.9 % point of χ² with nine degrees of freedom."""


def figures(both: Pair, thresholds: DriftThresholds) -> dict[str, Any]:
    """The figures of the drift suite."""
    moved = cosines(both.now.vectors, both.before.vectors)
    overlap = neighbour_overlap(both, thresholds)
    found: dict[str, Any] = {
        "moved_share": float((moved < thresholds.moved_cosine).mean()),
        "title_cosine_p50": float(np.median(moved)),
        "neighbour_jaccard": float(overlap.mean()),
        "neighbours_beyond_chance": beyond_chance(overlap, len(both.now.ids), thresholds.neighbours),
        "swapped": [f"{a} ↔ {b}" for a, b in swapped(both, moved, thresholds)],
    }
    found["swapped_titles"] = len(found["swapped"])
    if len(both.members_now):
        now = _scores(both.members_now, both.now.vectors, thresholds.sample)
        before = _scores(both.members_before, both.before.vectors, thresholds.sample)
        found["score_psi"] = psi(now, before)
        found["scores"] = histograms(now, before)
        found |= _popularity(both)
    if len(both.members_now) >= FEW:
        found["member_identity"] = identity(both.members_now, both.members_before)
    return found


def _scores(members: Floats, vectors: Floats, sample: int) -> Floats:
    """Scores of sampled members with sampled titles, flat."""
    return (members @ vectors[spread(len(vectors), sample)].T).ravel()


def identity(now: Floats, before: Floats) -> float:
    """The share of pairs of members of which the own place before is nearer than the other's place now; ties half."""
    x, y = unit_rows(now), unit_rows(before)
    own = np.einsum("ij,ij->i", x, y)
    others = [np.einsum("ij,ij->i", np.roll(x, step, axis=0), y) for step in range(1, min(OTHERS, len(x) - 1) + 1)]
    return float(np.mean([(own > other) + 0.5 * (own == other) for other in others]))


def _popularity(both: Pair) -> dict[str, float]:
    """How scores follow plays; the mean score of a title is its score with the mean member."""
    now = spearman(both.now.plays, both.now.vectors @ both.members_now.mean(axis=0))
    before = spearman(both.before.plays, both.before.vectors @ both.members_before.mean(axis=0))
    return {"popularity_now": now, "popularity_before": before, "popularity_drop": before - now}


def neighbour_overlap(both: Pair, thresholds: DriftThresholds) -> Floats:
    """The Jaccard overlap of the neighbours, before and now, of each sampled title."""
    rows = spread(len(both.now.ids), thresholds.sample)
    now = nearest(both.now.vectors, rows, thresholds.neighbours)
    before = nearest(both.before.vectors, rows, thresholds.neighbours)
    common = np.array([len(np.intersect1d(a, b)) for a, b in zip(now, before, strict=True)])
    return np.asarray(common / (2 * now.shape[1] - common))


def beyond_chance(jaccard: Floats, count: int, k: int) -> float:
    """The mean share of kept neighbours, with 0 at what shuffling `count` titles would keep and 1 at all."""
    chance = min(1.0, k / max(1, count - 1))
    kept = float((2 * jaccard / (1 + jaccard)).mean())
    return (kept - chance) / (1 - chance) if chance < 1 else 1.0


def swapped(both: Pair, moved: Floats, thresholds: DriftThresholds) -> list[tuple[str, str]]:
    """Names of titles that took each other's place: each left its own and is now at the other's."""
    gone = np.flatnonzero(moved < thresholds.moved_cosine)
    if len(gone) < 2 or len(gone) > thresholds.sample:
        return []
    across = unit_rows(both.now.vectors[gone]) @ unit_rows(both.before.vectors[gone]).T
    best = across.argmax(axis=1)
    found = []
    for a, b in enumerate(best):
        if a < b and best[b] == a and min(across[a, b], across[b, a]) >= thresholds.swapped_cosine:
            found.append((both.now.names[gone[a]], both.now.names[gone[b]]))
    return found


def psi(now: Floats, before: Floats) -> float:
    """The population stability index of `now` against the deciles of `before`."""
    edges = np.unique(np.quantile(before, np.linspace(0.1, 0.9, 9)))
    p, q = (np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) for values in (before, now))
    return shares_psi(p.astype(np.float64), q.astype(np.float64))


def norms_psi(now: dict[str, Any], before: dict[str, Any]) -> float:
    """The population stability index of two norm histograms, over the deciles of the earlier one, beyond chance.

    Without any shift the index of n and m draws is (1/n + 1/m) χ² of nine degrees of freedom (Yurdakul, "Statistical
    properties of population stability index", 2018), which for seventy titles is a quarter by itself: what 99.9 % of
    such draws stay below is taken off.
    """
    q, p = whole_histogram(now).astype(np.float64), whole_histogram(before).astype(np.float64)
    decile = np.clip(np.ceil(10 * np.cumsum(p) / max(p.sum(), 1.0)) - 1, 0, 9).astype(np.int64)
    found = shares_psi(*(np.asarray(np.bincount(decile, counts, 10), np.float64) for counts in (p, q)))
    by_chance = CHI_SQUARED_9 * (1 / max(float(p.sum()), 1.0) + 1 / max(float(q.sum()), 1.0))
    return max(0.0, found - by_chance)


def shares_psi(p: Floats, q: Floats) -> float:
    """The population stability index of counts `q` against counts `p`; empty cells count as half an entry."""
    p, q = (np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum() for counts in (p, q))
    return float(((q - p) * np.log(q / p)).sum())


def histograms(now: Floats, before: Floats, bins: int = 48) -> dict[str, Any]:
    """Both distributions over common bins, for the report."""
    low, high = np.quantile(np.concatenate([now, before]), [0.002, 0.998])
    edges = np.linspace(low, max(high, low + TINY), bins + 1)
    counts = {"now": np.histogram(now, edges)[0].tolist(), "before": np.histogram(before, edges)[0].tolist()}
    return {"low": float(edges[0]), "high": float(edges[-1]), **counts}


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def ranks(x: Floats) -> Floats:
    """The rank of each value, ties at their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


POPULARITY_THIRDS = ("most played third", "middle third", "least played third")


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
        if len(rows) >= thresholds.min_segment_titles
    ]
    found.sort(key=lambda entry: -float(str(entry["moved_share"])))
    return {"segments": found, "segment_moved_share": found[0]["moved_share"]} if found else {}


def _segments(both: Pair, release: Release) -> dict[str, Places]:
    """The rows of each segment; a title is in one third and in each of its genres."""
    order = np.argsort(-both.before.plays, kind="stable").astype(np.int64)
    found: dict[str, Places] = dict(zip(POPULARITY_THIRDS, np.array_split(order, len(POPULARITY_THIRDS)), strict=True))
    place = {title: row for row, title in enumerate(both.now.ids)}
    table = release.table("titles", [TITLE_ID, "genres"])
    rows: dict[str, list[int]] = {}
    for title, genres in zip(table[TITLE_ID].to_pylist(), table["genres"].to_pylist(), strict=True):
        for genre in {genre for genre in genres or [] if genre} if title in place else ():
            rows.setdefault(genre, []).append(place[title])
    return found | {genre: np.array(sorted(at), np.int64) for genre, at in sorted(rows.items())}
