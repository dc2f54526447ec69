"""What changed since the live release: counts, arrivals and departures, and the titles that moved."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stores.releases.release import Release
from validation.config import DriftThresholds
from validation.drift import beyond_chance, neighbour_overlap
from validation.release_diff import farthest, neighbours, well_known
from validation.release_pairs import Pair, Places, cosines
from validation.report.data import ReportData
from validation.report.html import Html, card, el, join, meter, table

MOVED, IN_SIGHT, NAMED = 30, 8, 12
_COUNTS = (
    ("members", "histories", "members"),
    ("titles", "histories", "titles"),
    ("events", "histories", "events_accepted"),
    ("tokens", "histories", "tokens"),
)


def section(facts: ReportData) -> Html:
    """Counts beside the release before, titles that came and went, titles that moved."""
    if facts.before is not None and facts.pair is not None:
        note = f"Beside release {facts.before.release_id}, which was live when this night began."
        parts = [_arrivals(facts, facts.pair, facts.before), _moved(facts.pair), _segments(facts)]
    elif facts.before is not None:
        note = "The live release is in another space, so single titles cannot be compared with it."
        parts = [_examples(facts)]
    else:
        note = "This is the first release: there is nothing to compare it with. These are its best-known titles."
        parts = [_examples(facts)]
    return card("What changed", _counts(facts), *parts, note=note, anchor="changes")


def _counts(facts: ReportData) -> Html:
    tiles = []
    for name, stage, metric in _COUNTS:
        now, before = facts.metrics(stage).get(metric), facts.metrics_before(stage).get(metric)
        if now is not None:
            tiles.append(el("div", el("b", f"{now:,}"), el("span", name), _change(now, before), class_="tile"))
    return el("div", tiles, class_="tiles")


def _change(now: float, before: float | None) -> Html | None:
    if not before:
        return None
    sign = "±0" if now == before else f"{now - before:+,}"
    return el("small", f"{sign} ({(now - before) / before:+.1%})")


def _arrivals(facts: ReportData, both: Pair, before: Release) -> Html | None:
    if facts.titles is None:
        return None
    common = set(both.now.ids)
    came = [name for title, name in zip(facts.titles.ids, facts.titles.names, strict=True) if title not in common]
    lines = [_named("New titles", came)] if came else []
    gone = before.titles().count_rows() - len(common)
    if gone:
        lines.append(el("p", el("strong", "Titles that left: "), f"{gone:,}"))
    return el("div", lines) if lines else None


def _named(what: str, names: Sequence[str]) -> Html:
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return el("p", el("strong", f"{what} ({len(names):,}): "), ", ".join(names[:NAMED]) + rest)


def _moved(both: Pair) -> Html:
    thresholds = DriftThresholds()
    moved = cosines(both.now.vectors, both.before.vectors)
    rows = farthest(both, moved, thresholds)[:MOVED]
    among = np.union1d(well_known(both.now), rows)
    now, before = (neighbours(side, rows, among) for side in (both.now, both.before))
    body = [
        (
            both.now.names[row],
            f"{moved[row]:.2f}",
            _neighbours(both, before[at], now[at]),
            _neighbours(both, now[at], before[at]),
        )
        for at, row in enumerate(rows.tolist())
    ]
    overlap = neighbour_overlap(both, thresholds)
    kept = beyond_chance(overlap, len(both.now.ids), thresholds.neighbours)
    text = (
        f"{int((moved < thresholds.moved_cosine).sum()):,} of {len(moved):,} titles moved (cosine to their old place "
        f"below {thresholds.moved_cosine}); half stay above {np.median(moved):.3f}. Titles keep {max(0.0, kept):.0%} "
        f"of their nearest {thresholds.neighbours} neighbours. New neighbours are printed dark."
    )
    rest = _listed(body[IN_SIGHT:]) if len(body) > IN_SIGHT else None
    more = el("details", el("summary", f"{len(body) - IN_SIGHT} more"), rest) if rest else None
    return el("div", el("h3", "Titles that moved most"), el("p", text), _listed(body[:IN_SIGHT]), more)


def _segments(facts: ReportData) -> Html | None:
    """How many titles of each genre and third of the catalogue moved; None where it was not measured."""
    found: list[dict[str, Any]] = (facts.figures.get("drift") or {}).get("segments") or []
    if not found:
        return None
    rows = [
        (
            entry["segment"],
            meter(entry["moved_share"], f"{entry['moved_share']:.0%} moved"),
            f"{entry['moved_share']:.0%}",
            f"{entry['titles']:,}",
            f"{entry['cosine_p50']:.2f}",
        )
        for entry in found
    ]
    head = ("segment", ".share that moved", "moved", "titles", "median cosine")
    shown = table(head, rows[:IN_SIGHT], numbers=(2, 3, 4), label="segments that moved most")
    rest = table(head, rows[IN_SIGHT:], numbers=(2, 3, 4), label="other segments") if len(rows) > IN_SIGHT else None
    more = el("details", el("summary", f"{len(rows) - IN_SIGHT} more"), rest) if rest else None
    return el("div", el("h3", "By genre and popularity"), shown, more)


def _listed(rows: Sequence[Sequence[Any]]) -> Html:
    head = ("title", "cosine", "was near", "is near")
    return table(head, rows, numbers=(1,), label="titles that moved most", stack=True)


def _neighbours(both: Pair, shown: Places, other: Places) -> Html:
    """Names of neighbours; those that are on this side only are marked."""
    there = set(other.tolist())
    return _names([el("span", both.now.names[i], class_=None if i in there else "news") for i in shown])


def _names(names: Sequence[Html]) -> Html:
    return el("span", [join(" · " if at else None, name) for at, name in enumerate(names)], class_="names")


def _examples(facts: ReportData) -> Html | None:
    titles = facts.titles
    if titles is None or len(titles.ids) < 2:
        return None
    rows = np.argsort(-titles.plays, kind="stable")[:8].astype(np.int64)
    rows = rows[np.isin(rows, well_known(titles))]
    found = neighbours(titles, rows, well_known(titles))
    body = [
        (titles.names[row], _names([el("span", titles.names[i]) for i in found[at]]))
        for at, row in enumerate(rows.tolist())
    ]
    return table(("title", "titles like it"), body, label="best-known titles and their neighbours", stack=True)
