"""Norms and scores beside the release before, and where the energy lies."""

from typing import Any

import numpy as np

from validation.report.data import ReportData
from validation.report.html import Html, bars, card, el, overlay
from validation.statistics import bin_centre, whole_histogram

POINTS = 40


def section(facts: ReportData) -> Html | None:
    """Charts of the vectors; None where they were not measured."""
    sides = [(side, facts.figures[side]) for side in ("members", "titles") if facts.figures.get(side)]
    if not sides:
        return None
    charts = [chart for side, figures in sides if (chart := _norms(side, figures, facts.figures_before.get(side)))]
    if scores := (facts.figures.get("drift") or {}).get("scores"):
        charts.append(_scores(scores))
    charts += [chart for side, figures in sides if (chart := _energy(side, figures, facts))]
    if stability := _dimensions(facts):
        charts.append(stability)
    key = el("p", el("span", class_="key now"), "this release ", el("span", class_="key before"), "the one before")
    return card("Vectors", key if facts.figures_before else None, el("div", charts, class_="grid"), anchor="vectors")


def _norms(side: str, figures: dict[str, Any], before: dict[str, Any] | None) -> Html | None:
    found = [whole_histogram(side_figures["norms"]) for side_figures in (figures, before) if side_figures]
    for histogram in found:
        histogram[0] = 0  # zero vectors would stretch the axis over everything else
    used = np.flatnonzero(sum(found))
    if not len(used):
        return None
    step = max(1, -(-(int(used[-1]) - int(used[0]) + 1) // POINTS))
    first, last = max(0, int(used[0]) - step), min(len(found[0]), int(used[-1]) + 1 + step)
    view = [np.add.reduceat(h[first:last], np.arange(0, last - first, step)).tolist() for h in found]
    ends = (f"{bin_centre(first):.3g}", f"{bin_centre(last):.3g}")
    chart = overlay(view[0], view[1] if len(view) > 1 else None, ends, f"Distribution of the norms of {side}")
    median, rank = figures["norm_median"], figures["effective_rank"]
    text = f"Norms of {side}: median {median:.3g}; effective rank {rank:.1f} of {figures['width']}"
    if figures["zero_share"]:
        text += f"; {figures['zero_share']:.1%} zero vectors left out"
    return el("figure", chart, el("figcaption", text))


def _scores(scores: dict[str, Any]) -> Html:
    ends = (f"{scores['low']:.3g}", f"{scores['high']:.3g}")
    chart = overlay(scores["now"], scores["before"], ends, "Distribution of scores of sampled members and titles")
    return el("figure", chart, el("figcaption", "Scores of sampled members with sampled titles"))


def _energy(side: str, figures: dict[str, Any], facts: ReportData) -> Html | None:
    energy: list[float] = figures.get("energy") or []
    if not energy:
        return None
    stable = {entry["index"]: entry.get("correlation") for entry in facts.metrics("align").get("dimensions") or []}
    labels = [
        f"dimension {at}: {share:.1%} of the energy{_stability(stable.get(at))}" for at, share in enumerate(energy)
    ]
    chart = bars(energy, labels, ("first dimension", "last"), f"Share of the energy of {side} in each dimension")
    half = int(np.searchsorted(np.cumsum(sorted(energy, reverse=True)), 0.9)) + 1
    text = f"Energy of {side} by dimension: 90 % lie in {half} of {len(energy)}"
    return el("figure", chart, el("figcaption", text + _weighted(energy, stable)))


def _dimensions(facts: ReportData) -> Html | None:
    """How far each dimension still means what it means in the reference; None on the night that opens the space."""
    known = [entry for entry in facts.metrics("align").get("dimensions") or [] if entry.get("correlation") is not None]
    if not known or not facts.comparable:
        return None
    values = [max(0.0, entry["correlation"]) for entry in known]
    labels = [f"dimension {entry['index']}: correlation {entry['correlation']:.3f}" for entry in known]
    title = "Correlation of each dimension with the reference"
    text = f"Stability of each dimension: correlation with the reference, {min(values):.2f} to {max(values):.2f}"
    return el("figure", bars(values, labels, ("first dimension", "last"), title), el("figcaption", text))


def _stability(correlation: float | None) -> str:
    return "" if correlation is None else f", correlation with the reference {correlation:.3f}"


def _weighted(energy: list[float], stable: dict[int, float | None]) -> str:
    known = [(energy[at], value) for at, value in stable.items() if value is not None and at < len(energy)]
    total = sum(share for share, _ in known)
    if not total:
        return ""
    return f"; correlation with the reference, weighted by energy, {sum(s * c for s, c in known) / total:.3f}"
