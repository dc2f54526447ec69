"""How good the model is: on its own held-out titles, and beside the live model on events that neither has seen."""

from typing import Any

from validation.report.charts import meter
from validation.report.facts import Facts
from validation.report.markup import Html, card, el, table

NAMES = {"current": "the live model", "popular_7_days": "the last week's favourites"}


def section(facts: Facts) -> Html | None:
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
    rows = [_row("all questions", NAMES[other], found) for other, found in compared["against"].items()]
    for name, slices in compared["slices"].items():
        rows += [_row(name.replace("_", " "), NAMES[other], found) for other, found in slices.items()]
    titles = ("questions", "beside", "count", "this model", "other", "difference, 95 % interval", "NDCG, both")
    asked = [row for row in rows if row]
    note = "The interval is paired. Hits of the live model count by the share that the gate allows; a new model "
    note += "is held only where it surely ranks worse (NDCG of all ranks), not where this lies below zero."
    shown = table(titles, asked, numbers=range(2, 7), label="paired comparison", stack=True)
    return el("div", head, el("p", note), shown)


def _row(what: str, other: str, found: dict[str, Any]) -> tuple[Any, ...]:
    if not found["questions"]:
        return ()
    interval = f"{found['low']:+.4f} to {found['high']:+.4f}"
    rates = (f"{found['hit_rate']:.4f}", f"{found['other_hit_rate']:.4f}")
    gains = f"{found['ndcg']:.4f}, {found['other_ndcg']:.4f}" if "ndcg" in found else ""
    return (what, other, f"{found['questions']:,}", *rates, interval, gains)
