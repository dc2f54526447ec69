"""HTML as nested calls; text is escaped where it enters, so a name can never become markup or reorder what is near."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from stores.terminal import safe

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
        return escape(safe(str(child)))
    return join(*child)


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-") if name != "viewBox" else name
    return f" {name}" if value is True else f' {name}="{escape(safe(str(value)))}"'
