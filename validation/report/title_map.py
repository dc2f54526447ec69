"""The titles on a plane, coloured by genre: the two directions in which titles differ most."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from validation.geometry import TINY, Places, unit
from validation.report.facts import Facts
from validation.report.markup import Html, card, el, embedded
from validation.statistics import Floats

POINTS, GENRES, OTHER = 3_000, 8, "other"


def section(facts: Facts) -> Html | None:
    """A canvas that the page's script draws: hover for names, search, pick genres."""
    if facts.titles is None or facts.catalogue is None or len(facts.titles.ids) < 3:
        return None
    shown = np.argsort(-facts.titles.plays, kind="stable")[:POINTS]
    plane = project(facts.titles.vectors, shown)
    genres = _main_genres(facts.catalogue)
    names = [facts.titles.names[i] for i in shown]
    kinds = [genres.get(facts.titles.ids[i], OTHER) for i in shown]
    legend = [genre for genre, _ in Counter(kind for kind in kinds if kind != OTHER).most_common(GENRES)]
    legend.append(OTHER)
    colour = [legend.index(kind) if kind in legend else len(legend) - 1 for kind in kinds]
    data = {"x": _short(plane[:, 0]), "y": _short(plane[:, 1]), "genre": colour, "name": names, "legend": legend}
    label = f"Map of {len(names)} titles; titles that are alike lie close together"
    search = el("input", type="search", id="find", placeholder="Find a title", aria_label="Find a title on the map")
    return card(
        "Map of the titles",
        el("div", search, el("div", id="legend", class_="legend"), class_="tools"),
        el("div", el("canvas", id="map", role="img", aria_label=label), el("output", id="tip"), class_="map"),
        embedded("titles", data),
        note=f"Titles that are alike lie close together. {_scope(len(names), len(facts.titles.ids))}",
        anchor="titles-map",
    )


def project(vectors: Floats, rows: Places) -> Floats:
    """Directions of `rows` on the first two principal axes of all, (n, 2) in [−1, 1]; signs are fixed by the data."""
    x = unit(vectors)
    x = x - x.mean(axis=0)
    _, axes = np.linalg.eigh(x.T @ x)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    plane = x[rows] @ axes
    if plane.shape[1] < 2:
        plane = np.column_stack([plane, np.zeros(len(plane))])
    low, high = np.quantile(plane, [0.002, 0.998], axis=0)
    return np.asarray(np.clip(2 * (plane - low) / np.maximum(high - low, TINY) - 1, -1.0, 1.0))


def _main_genres(catalogue: pa.Table) -> dict[Any, str]:
    """Each title's most specific genre among the frequent ones: the rarest that enough titles have."""
    lists = [[genre for genre in genres or [] if genre] for genres in catalogue["genres"].to_pylist()]
    counts = Counter(genre for genres in lists for genre in genres)
    frequent = {genre for genre, _ in counts.most_common(GENRES)}
    chosen = (min((g for g in genres if g in frequent), key=lambda g: counts[g], default=OTHER) for genres in lists)
    return dict(zip(catalogue["title_id"].to_pylist(), chosen, strict=True))


def _scope(shown: int, total: int) -> str:
    return f"All {total:,} titles." if shown == total else f"The {shown:,} most played of {total:,} titles."


def _short(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]
