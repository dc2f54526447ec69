"""First of all: may it go live, and if not, why."""

import re
from collections.abc import Sequence

from validation.checks import Check, shown
from validation.report.facts import Facts
from validation.report.markup import Html, el, join

SECTION = re.compile(r'<section id="([^"]+)"><h2>([^<]+)</h2>')


def section(facts: Facts, parts: Sequence[Html]) -> Html:
    """The verdict with its reasons, the release's papers, and where to find the other `parts`."""
    held = [check for verdict in facts.verdicts for check in verdict.held]
    warned = [check for verdict in facts.verdicts for check in verdict.warnings]
    count = sum(len(verdict.checks) for verdict in facts.verdicts)
    state, headline, text = _headline(facts, held, warned, count)
    lists = [
        el("ul", [el("li", _reason(check)) for check in found], class_=f"reasons {level}")
        for level, found in (("hold", held), ("warn", warned))
        if found
    ]
    if facts.taken_back:
        lists.insert(0, el("ul", [el("li", line) for line in facts.taken_back], class_="reasons hold"))
    return el(
        "header",
        el("p", "samespace nightly release", class_="eyebrow"),
        el("h1", el("span", class_=f"light {state}", aria_hidden="true"), headline),
        el("p", text, class_="lead"),
        lists,
        _papers(facts),
        el("nav", [_link(part) for part in parts], aria_label="sections"),
        class_=state,
    )


def _headline(facts: Facts, held: list[Check], warned: list[Check], count: int) -> tuple[str, str, str]:
    if facts.taken_back:
        return "held", "Taken back", "What consumers read after it went live was not what was published."
    if held or (facts.release.sealed and facts.release.manifest.status == "held"):
        text = f"{len(held)} of {count} checks hold this release. What was live stays live."
        return "held", "Held back", text
    if not facts.verdicts:
        return "doubt", "Not judged", "No gate has judged this release yet."
    if warned:
        noun = "warning" if len(warned) == 1 else "warnings"
        return "good", "Good to go live", f"None of {count} checks holds this release; {len(warned)} {noun} to look at."
    return "good", "Good to go live", f"All {count} checks passed."


def _reason(check: Check) -> Html:
    found = "Not measured" if check.observed is None else f"Found {shown(check.observed)}"
    examples = el("small", f"for example {', '.join(check.examples)}") if check.examples else None
    head = el("strong", f"Not met: {check.expectation}.")
    return join(head, f" {found}, allowed {check.allowed}. {sentence(check.reason)}. ", examples)


def sentence(text: str) -> str:
    """Text with a capital letter at its head."""
    return text[:1].upper() + text[1:]


def _link(part: Html) -> Html | None:
    found = SECTION.match(part)
    return el("a", Html(found[2]), href=f"#{found[1]}") if found else None


def _papers(facts: Facts) -> Html:
    plan = facts.plan
    opened = "first night" if facts.before is None else facts.before.release_id
    rows = [
        ("release", plan.release_id),
        ("as of", f"{plan.as_of:%d %B %Y, %H:%M} UTC"),
        ("space", facts.release.space_id),
        ("model", plan.model_id[:16]),
        ("live before", opened),
    ]
    return el("dl", [join(el("div", el("dt", name), el("dd", value))) for name, value in rows], class_="papers")
