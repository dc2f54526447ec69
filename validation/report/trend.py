"""The last releases side by side."""

from collections.abc import Callable

from stores.release import Release
from validation import past
from validation.checks import shown
from validation.report.charts import spark
from validation.report.facts import Facts
from validation.report.markup import Html, card, el, table

Reader = Callable[[Release], float | None]


def section(facts: Facts) -> Html | None:
    """A line for each figure over the releases, and the releases themselves; None before the second one."""
    if len(facts.trend) < 2:
        return None
    tiles = [tile for name, read in _LINES.items() if (tile := _tile(name, [read(r) for r in facts.trend]))]
    rows = [
        (
            release.release_id,
            el("span", release.manifest.status, class_=f"tag {'ok' if release.manifest.status == 'ready' else 'hold'}"),
            release.space_id,
            release.manifest.model_id[:12],
            (release.manifest.reasons or [""])[0].split(" — ")[0],
        )
        for release in reversed(facts.trend)
    ]
    listed = table(("release", ".status", "space", "model", "first reason"), rows, label="the last releases")
    folded = el("details", el("summary", f"the last {len(rows)} releases"), listed)
    return card(
        "Trend", el("div", tiles, class_="tiles"), folded, note=f"The last {len(rows)} releases.", anchor="trend"
    )


def _tile(name: str, values: list[float | None]) -> Html | None:
    last = next((value for value in reversed(values) if value is not None), None)
    if last is None:
        return None
    return el("div", el("b", shown(last)), el("span", name), spark(values, f"{name} over the releases"), class_="tile")


def _metric(stage: str, *path: str) -> Reader:
    def read(release: Release) -> float | None:
        found = past.metrics(release, stage)
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None  # type: ignore[assignment]
        return float(found) if isinstance(found, int | float) else None

    return read


def _seconds(release: Release) -> float | None:
    return round(sum(stage.seconds for stage in release.manifest.stages), 1)


_LINES: dict[str, Reader] = {
    "members": _metric("histories", "members"),
    "titles": _metric("histories", "titles"),
    "events": _metric("histories", "events_accepted"),
    "refused share": _metric("histories", "bad_fraction"),
    "held-out cosine": _metric("align", "heldout_cosine_p50"),
    "HR@10 of the model": _metric("gate_vectors", "figures", "quality", "hit_rate"),
    "effective rank of titles": _metric("gate_vectors", "figures", "titles", "effective_rank"),
    "kept neighbours": _metric("gate_vectors", "figures", "drift", "neighbour_jaccard"),
    "recall of candidates": _metric("index", "candidates", "recall"),
    "seconds": _seconds,
}
