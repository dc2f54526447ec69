"""First of all: is it live, may it go live, and if not, why."""

import re
from collections.abc import Sequence

from validation.checks import Check
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
    """The light, the state of the release, and that state with the answers of the gates as text."""
    judged = _judged(held, warned, count)
    if facts.state is not None:
        return facts.state.light, facts.state.headline, f"{facts.state.text} {judged}"
    if held:
        return "held", "Held back", f"{judged} What was live stays live."
    return "doubt", "Not finished" if facts.verdicts else "Not judged", judged


def _judged(held: list[Check], warned: list[Check], count: int) -> str:
    if not count:
        return "No gate has judged this release yet."
    if held:
        return f"{len(held)} of {count} checks hold this release."
    if warned:
        noun = "warning" if len(warned) == 1 else "warnings"
        return f"None of {count} checks holds this release; {len(warned)} {noun} to look at."
    return f"All {count} checks passed."


def _reason(check: Check) -> Html:
    examples = el("small", f"for example {', '.join(check.examples)}") if check.examples else None
    head = el("strong", f"Not met: {check.expectation}.")
    return join(head, f" {sentence(check.explanation)}. {sentence(check.reason)}. ", examples)


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
