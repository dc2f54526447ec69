"""Statistics of the run: quality of the model, the indexes, stages, and the trend over nights."""

from collections.abc import Callable
from typing import Any

from stores.releases.dead_letter import count_by_reason
from stores.releases.release import Release
from validation import previous_releases
from validation.checks import shown
from validation.report.data import ReportData
from validation.report.html import Html, card, el, meter, spark, table
from validation.suites.index import NAMES

BASELINE_NAMES = {"current": "the live model", "popular_7_days": "the last week's favourites"}


def quality_section(facts: ReportData) -> Html | None:
    """The model's hit rates; None where nothing was measured."""
    measured: dict[str, Any] = facts.figures.get("quality") or {}
    parts = [part for part in (_own(measured), _beside(measured.get("compared") or {})) if part]
    if not parts:
        return None
    note = "HR@10: how often the title that a member watched next is among the ten that the model puts first."
    return card("The model", *parts, note=note, anchor="model")


def _own(measured: dict[str, Any]) -> Html | None:
    if "hit_rate" not in measured:
        return None
    rates = {"this model": measured["hit_rate"], **measured.get("baselines", {})}
    top = max(rates.values()) or 1.0
    rows = [
        (el("strong", name) if name == "this model" else name.replace("_", " "), meter(rate / top, name), f"{rate:.4f}")
        for name, rate in rates.items()
    ]
    shown = table((".who", ".share of the best", "HR@10"), rows, numbers=(2,), label="hit rates on held-out titles")
    return el("div", el("h3", "On held-out titles, measured when it was trained"), shown)


def _beside(compared: dict[str, Any]) -> Html | None:
    """The paired comparison; a line that says why where there was none."""
    if not compared:
        return None
    head = el("h3", "Beside the live model, on what members watched after both were trained")
    if not compared.get("questions"):
        return el("div", head, el("p", f"Not compared: {compared.get('why')}."))
    rows = [_quality_row("all questions", BASELINE_NAMES[other], found) for other, found in compared["against"].items()]
    for name, slices in compared["slices"].items():
        rows += [_quality_row(name.replace("_", " "), BASELINE_NAMES[other], found) for other, found in slices.items()]
    titles = ("questions", "beside", "count", "this model", "other", "difference, 95 % interval", "NDCG, both")
    asked = [row for row in rows if row]
    note = "The interval is paired. Hits of the live model count by the share that the gate allows; a new model "
    note += "is held only where it surely ranks worse (NDCG of all ranks), not where this lies below zero."
    shown = table(titles, asked, numbers=range(2, 7), label="paired comparison", stack=True)
    return el("div", head, el("p", note), shown)


def _quality_row(what: str, other: str, found: dict[str, Any]) -> tuple[Any, ...]:
    if not found["questions"]:
        return ()
    interval = f"{found['low']:+.4f} to {found['high']:+.4f}"
    rates = (f"{found['hit_rate']:.4f}", f"{found['other_hit_rate']:.4f}")
    gains = f"{found['ndcg']:.4f}, {found['other_ndcg']:.4f}" if "ndcg" in found else ""
    return (what, other, f"{found['questions']:,}", *rates, interval, gains)


def indexes(facts: ReportData) -> Html | None:
    """What was tried for each index, and what was chosen."""
    metrics = facts.metrics("index")
    rows = [row for name in NAMES if name in metrics for row in _trials(name, metrics[name])]
    if not rows:
        return None
    head = ("index", "type", "effort", "titles", "recall", "95 % interval", "queries/s", "size")
    note = "Recall: how many of the titles that an exact search finds are found. Chosen ones are marked."
    return card("Indexes", table(head, rows, numbers=range(2, 8), label="index trials"), note=note, anchor="indexes")


def _trials(name: str, measured: dict[str, Any]) -> list[tuple[Any, ...]]:
    low, high = measured.get("recall_low"), measured.get("recall_high")
    chosen = (
        el("strong", name),
        el("strong", str(measured.get("backend"))),
        measured.get("search_effort"),
        _count(measured.get("titles")),
        _ratio(measured.get("recall")),
        "—" if low is None or high is None else f"{low:.4f} to {high:.4f}",
        _count(measured.get("queries_per_second")),
        _size(measured.get("bytes")),
    )
    return [chosen, *(_tried(name, trial) for trial in measured.get("trials") or [] if not trial.get("chosen"))]


def _tried(name: str, trial: dict[str, Any]) -> tuple[Any, ...]:
    recall, rate = _ratio((trial.get("recall") or {}).get("value")), _count(trial.get("queries_per_second"))
    kind = f"{trial['backend']} (tried)"
    return (name, kind, trial.get("search_effort"), _count(trial.get("titles")), recall, "", rate, "")


def stages(facts: ReportData) -> Html | None:
    """Seconds, rows and rate of each stage."""
    reports = facts.stages
    total = sum(report.seconds for report in reports)
    if not reports:
        return None
    rows = [
        (
            report.name.replace("_", " "),
            meter(report.seconds / total if total else 0.0, f"{report.seconds:.1f} s"),
            f"{report.seconds:,.1f} s",
            f"{report.rows:,}" if report.rows else "",
            f"{report.rows / report.seconds:,.0f}/s" if report.rows and report.seconds >= 0.05 else "",
        )
        for report in reports
    ]
    head = ("stage", ".share of the time", "time", "rows", "rate")
    note = f"{total:,.1f} seconds in all."
    return card("Stages", table(head, rows, numbers=(2, 3, 4), label="stages"), note=note, anchor="stages")


def refused(facts: ReportData) -> Html | None:
    """Refused rows by reason."""
    counts = count_by_reason(facts.release)
    if not counts:
        return None
    total = sum(counts.values())
    rows = [(reason, meter(count / total, f"{count:,}"), f"{count:,}") for reason, count in counts.items()]
    note = f"{total:,} rows were refused and kept in dead_letter/, each with its source, place and reason."
    body = table(("reason", ".share", "rows"), rows, numbers=(2,), label="refused rows by reason")
    return card("Dead letter", body, note=note, anchor="dead-letter")


def _count(value: float | None) -> str:
    return "—" if value is None else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def _size(value: int | None) -> str:
    return "—" if value is None else f"{value / 1e6:,.1f} MB"


Reader = Callable[[Release], float | None]


def trend_section(facts: ReportData) -> Html | None:
    """A line for each figure over the releases, and the releases themselves; None before the second one."""
    if len(facts.trend) < 2:
        return None
    tiles = [tile for name, read in _TREND_LINES.items() if (tile := _tile(name, [read(r) for r in facts.trend]))]
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


def _stage_metric(stage: str, *path: str) -> Reader:
    def read(release: Release) -> float | None:
        found = previous_releases.metrics(release, stage)
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None  # type: ignore[assignment]
        return float(found) if isinstance(found, int | float) else None

    return read


def _night_seconds(release: Release) -> float | None:
    return round(sum(stage.seconds for stage in release.manifest.stages), 1)


_TREND_LINES: dict[str, Reader] = {
    "members": _stage_metric("histories", "members"),
    "titles": _stage_metric("histories", "titles"),
    "events": _stage_metric("histories", "events_accepted"),
    "refused share": _stage_metric("histories", "bad_fraction"),
    "held-out cosine": _stage_metric("align", "heldout_cosine_p50"),
    "HR@10 of the model": _stage_metric("gate_vectors", "figures", "quality", "hit_rate"),
    "effective rank of titles": _stage_metric("gate_vectors", "figures", "titles", "effective_rank"),
    "kept neighbours": _stage_metric("gate_vectors", "figures", "drift", "neighbour_jaccard"),
    "recall of candidates": _stage_metric("index", "candidates", "recall"),
    "seconds": _night_seconds,
}
