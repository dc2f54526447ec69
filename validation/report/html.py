"""HTML and SVG as nested calls; text is escaped where it enters."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from stores.terminal import escape_controls

VOID = frozenset({"br", "circle", "hr", "img", "input", "line", "meta", "path", "polyline", "rect"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | float | None


def el(tag: str, *children: Child | Iterable[Child], **attributes: Any) -> Html:
    """An element. `class_` is the attribute class, `data_x` is data-x; None leaves an attribute out, True is bare."""
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    if tag in VOID and not children:
        return Html(f"<{tag}{written}/>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child | Iterable[Child]) -> Html:
    """Children one after the other, text escaped."""
    return Html("".join(_written(child) for child in children))


def embedded(name: str, value: Any) -> Html:
    """A value as JSON in a script element that a script can read and no browser runs."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f'<script type="application/json" id="{escape(name)}">{safe}</script>')


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Child]],
    numbers: Iterable[int] = (),
    label: str = "",
    stack: bool = False,
) -> Html:
    """A table; `numbers` are the columns aligned to the right. On a narrow screen it scrolls, or stacks its cells."""
    kinds = ["number" if at in set(numbers) else None for at in range(len(head))]
    titles = [_head(title, kind) for title, kind in zip(head, kinds, strict=True)]
    cells = [
        el("tr", [el("td", c, class_=kind, data_label=title) for c, kind, title in zip(row, kinds, head, strict=True)])
        for row in rows
    ]
    body = el("table", el("thead", el("tr", titles)), el("tbody", cells), class_="stack" if stack else None)
    return el("div", body, class_="scroll", tabindex="0", role="region", aria_label=label or "table")


def _head(title: str, kind: str | None) -> Html:
    """A column's head; one that begins with a dot is for screen readers only."""
    text: Child = el("span", title[1:], class_="hidden") if title.startswith(".") else title
    return el("th", text, scope="col", class_=kind)


def card(title: str, *children: Child | Iterable[Child], note: str = "", anchor: str = "") -> Html:
    """A section with a heading and an introductory line."""
    head = [el("h2", title), el("p", note, class_="note") if note else None]
    return el("section", *head, *children, id=anchor or None)


def _written(child: Child | Iterable[Child]) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str | int | float):
        return escape(escape_controls(str(child)))
    return join(*child)


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-") if name != "viewBox" else name
    return f" {name}" if value is True else f' {name}="{escape(escape_controls(str(value)))}"'


WIDE, HIGH = 640, 170


def overlay(now: Sequence[float], before: Sequence[float] | None, ends: tuple[str, str], title: str) -> Html:
    """Two distributions over the same bins as shares: this release as a line, the one before as an area."""
    lines = [_shares(values) for values in (now, before) if values]
    top = max((max(line) for line in lines), default=0.0) or 1.0
    marks = []
    if before:
        marks.append(el("path", d=f"{_path(lines[1], top)}L{WIDE},{HIGH}L0,{HIGH}Z", class_="before"))
    marks.append(el("path", d=_path(lines[0], top), class_="now"))
    return _figure(marks, ends, title)


def bars(values: Sequence[float], labels: Sequence[str], ends: tuple[str, str], title: str) -> Html:
    """One bar per value; each names itself when it is pointed at."""
    top, step = max(values, default=0.0) or 1.0, WIDE / max(1, len(values))
    marks = []
    for at, (value, label) in enumerate(zip(values, labels, strict=True)):
        high = max(1.0, HIGH * value / top)
        box = {"x": f"{at * step + step * 0.1:.2f}", "width": f"{step * 0.8:.2f}"}
        marks.append(el("rect", el("title", label), y=f"{HIGH - high:.1f}", height=f"{high:.1f}", class_="bar", **box))
    return _figure(marks, ends, title)


def spark(values: Sequence[float | None], title: str) -> Html:
    """A line as high as a word, its last point marked; gaps where a value is missing."""
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    step = 120 / max(1, len(values) - 1)
    points = [
        (at * step + 4, 26 - 22 * (value - low) / ((high - low) or 1.0) if high > low else 15.0)
        for at, value in enumerate(values)
        if value is not None
    ]
    line = el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_="now")
    last = el("circle", cx=f"{points[-1][0]:.1f}", cy=f"{points[-1][1]:.1f}", r="3", class_="dot") if points else None
    return el("svg", line, last, viewBox="0 0 128 30", class_="spark", role="img", aria_label=title)


def meter(share: float, title: str) -> Html:
    """A horizontal bar of a share of its place."""
    return el("span", el("i", style=f"width:{100 * min(1.0, max(0.0, share)):.1f}%"), class_="meter", title=title)


def _figure(marks: list[Html], ends: tuple[str, str], title: str) -> Html:
    axis = el("line", x1="0", x2=str(WIDE), y1=str(HIGH), y2=str(HIGH), class_="axis")
    drawn = el("svg", *marks, axis, viewBox=f"0 -4 {WIDE} {HIGH + 6}", class_="chart", role="img", aria_label=title)
    # The ends are text beside the drawing, which would shrink them with itself on a phone.
    return join(drawn, el("div", [el("span", end) for end in ends], class_="ends"))


def _shares(values: Sequence[float]) -> list[float]:
    total = sum(values) or 1.0
    return [value / total for value in values]


def _path(values: Sequence[float], top: float) -> str:
    step = WIDE / max(1, len(values) - 1)
    points = [f"{at * step:.1f},{HIGH - HIGH * value / top:.1f}" for at, value in enumerate(values)]
    return "M" + "L".join(points)
