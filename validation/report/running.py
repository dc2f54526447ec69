"""How the night ran: indexes as measured, stages with their times, rows that were refused."""

from typing import Any

from stores.dead_letter import summary
from validation.report.charts import meter
from validation.report.facts import Facts
from validation.report.markup import Html, card, el, table
from validation.suites.index import NAMES


def indexes(facts: Facts) -> Html | None:
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
        measured.get("effort"),
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
    return (name, kind, trial.get("effort"), _count(trial.get("titles")), recall, "", rate, "")


def stages(facts: Facts) -> Html | None:
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


def refused(facts: Facts) -> Html | None:
    """Refused rows by reason."""
    counts = summary(facts.release)
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
