"""The titles on a plane, coloured by genre.

The plane is spanned by the two directions that tell the genres apart best (Fisher's linear discriminant,
1936): a linear view, so what is close in it was not bent there. Without enough genres it is the two
directions in which titles differ most.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from stores.releases.release import Release
from stores.terminal import escape_controls
from validation.release_pairs import TINY, Places, Titles, unit_rows
from validation.report.data import ReportData
from validation.report.html import Html, card, el, embedded
from validation.statistics import Floats

MAX_POINTS, MAX_GENRES, OTHER = 3_000, 8, "other"
MIN_TITLES_PER_GENRE, RIDGE_SHARE = 10, 0.05
"""Genres with fewer titles do not shape the plane; the ridge keeps it from following single titles."""


def section(facts: ReportData) -> Html | None:
    """A canvas that the page's script draws: hover for names, search, pick genres."""
    if facts.titles is None or facts.catalogue is None or len(facts.titles.ids) < 3:
        return None
    data = points(facts.titles, facts.catalogue)
    names = data["name"] = [escape_controls(name) for name in data["name"]]
    data["legend"] = [escape_controls(genre) for genre in data["legend"]]
    del data["title_id"]
    label = f"Map of {len(names)} titles; titles that are alike lie close together"
    search = el("input", type="search", id="find", placeholder="Find a title", aria_label="Find a title on the map")
    return card(
        "Map of the titles",
        el("div", search, el("div", id="legend", class_="legend"), class_="tools"),
        el("div", el("canvas", id="map", role="img", aria_label=label), el("output", id="tip"), class_="map"),
        embedded("titles", data),
        note=f"Titles that are alike lie close together, along the two directions that tell genres apart best. "
        f"{_scope(len(names), len(facts.titles.ids))}",
        anchor="titles-map",
    )


def plane_of(release: Release) -> dict[str, Any]:
    """The map of a release's titles as `points` gives it; empty lists where there are fewer than three."""
    facts = ReportData.of(release)
    if facts.titles is None or facts.catalogue is None or len(facts.titles.ids) < 3:
        return {"title_id": [], "name": [], "x": [], "y": [], "genre": [], "legend": [OTHER]}
    return points(facts.titles, facts.catalogue)


def points(titles: Titles, catalogue: pa.Table) -> dict[str, Any]:
    """The most played titles on the plane: lists `title_id`, `name`, `x`, `y`, `genre` of one length, and the `legend`.

    `genre` is a place in `legend`, whose last entry stands for all others. `catalogue` has ids and genres.
    """
    shown = np.argsort(-titles.plays, kind="stable")[:MAX_POINTS]
    genres = _main_genres(catalogue)
    ids = [titles.ids[i] for i in shown]
    kinds = [genres.get(title, OTHER) for title in ids]
    legend = [genre for genre, _ in Counter(kind for kind in kinds if kind != OTHER).most_common(MAX_GENRES)]
    legend.append(OTHER)
    colour = [legend.index(kind) if kind in legend else len(legend) - 1 for kind in kinds]
    plane = project(titles.vectors[shown], np.array(colour), len(legend) - 1)
    places = {"x": _short(plane[:, 0]), "y": _short(plane[:, 1]), "genre": colour, "legend": legend}
    return {"title_id": ids, "name": [titles.names[i] for i in shown], **places}


def project(vectors: Floats, genre: Places, other: int) -> Floats:
    """Directions of (n, d) vectors on the plane of the genres, (n, 2) in [−1, 1]; signs are fixed by the data.

    `genre` (n,) are numbers; those equal to `other` shape nothing.
    """
    x = unit_rows(vectors)
    x = x - x.mean(axis=0)
    axes = _discriminant(
        x, [rows for g in range(other) if len(rows := np.flatnonzero(genre == g)) >= MIN_TITLES_PER_GENRE]
    )
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    plane = x @ axes
    if plane.shape[1] < 2:
        plane = np.column_stack([plane, np.zeros(len(plane))])
    low, high = np.quantile(plane, [0.002, 0.998], axis=0)
    return np.asarray(np.clip(2 * (plane - low) / np.maximum(high - low, TINY) - 1, -1.0, 1.0))


def _discriminant(x: Floats, groups: list[Places]) -> Floats:
    """The two axes (d, 2) along which the means of groups differ most, in units of the spread within groups."""
    spread = x.T @ x
    if len(groups) < 3 or np.trace(spread) < TINY:
        return np.asarray(np.linalg.eigh(spread)[1][:, ::-1][:, :2])
    means = np.stack([x[rows].mean(axis=0) for rows in groups])
    between = sum(len(rows) * np.outer(mean, mean) for rows, mean in zip(groups, means, strict=True))
    within = sum((x[rows] - mean).T @ (x[rows] - mean) for rows, mean in zip(groups, means, strict=True))
    within = within + (RIDGE_SHARE * np.trace(within) / len(within) + TINY) * np.eye(len(within))
    half = np.linalg.inv(np.linalg.cholesky(within))
    found = np.linalg.eigh(half @ between @ half.T)[1][:, ::-1][:, :2]
    return np.asarray(half.T @ found)


def _main_genres(catalogue: pa.Table) -> dict[Any, str]:
    """Each title's most specific genre among the frequent ones: the rarest that enough titles have."""
    lists = [[genre for genre in genres or [] if genre] for genres in catalogue["genres"].to_pylist()]
    counts = Counter(genre for genres in lists for genre in genres)
    frequent = {genre for genre, _ in counts.most_common(MAX_GENRES)}
    chosen = (min((g for g in genres if g in frequent), key=lambda g: counts[g], default=OTHER) for genres in lists)
    return dict(zip(catalogue["title_id"].to_pylist(), chosen, strict=True))


def _scope(shown: int, total: int) -> str:
    return f"All {total:,} titles." if shown == total else f"The {shown:,} most played of {total:,} titles."


def _short(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]
