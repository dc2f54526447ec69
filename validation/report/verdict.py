"""The verdict of the report: is the release live, may it go live, and if not, which checks failed."""

import re
from collections.abc import Sequence

from validation.checks import Check, shown
from validation.report.data import ReportData
from validation.report.html import Html, card, el, join, table

SECTION = re.compile(r'<section id="([^"]+)"><h2>([^<]+)</h2>')


def section(facts: ReportData, parts: Sequence[Html]) -> Html:
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


def _headline(facts: ReportData, held: list[Check], warned: list[Check], count: int) -> tuple[str, str, str]:
    """The light, the state of the release, and that state with the answers of the gates as text."""
    judged = _judged(held, warned, count)
    if facts.state is not None:
        return facts.state.style_class, facts.state.headline, f"{facts.state.text} {judged}"
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


def _papers(facts: ReportData) -> Html:
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


def checks_section(facts: ReportData) -> Html | None:
    """Every check of every gate, failed ones in sight, passed ones folded."""
    parts: list[Html] = []
    for verdict in facts.verdicts:
        failed = [*verdict.held, *verdict.warnings]
        passed = [check for check in verdict.checks if check.passed]
        parts.append(
            el("h3", f"{verdict.name.capitalize()}", el("small", f"{len(passed)} of {len(verdict.checks)} passed"))
        )
        if failed:
            parts.append(_table(failed, f"failed checks of {verdict.name}"))
        if passed:
            summary = el("summary", f"{len(passed)} passed checks")
            parts.append(el("details", summary, _table(passed, f"passed checks of {verdict.name}")))
    if not parts:
        return None
    note = "What was expected, what was found. Only those marked hold can stop a release."
    return card("Checks", *parts, note=note, anchor="checks")


def _table(checks: list[Check], label: str) -> Html:
    rows = [
        (
            el(
                "span", "passed" if check.passed else check.level, class_=f"tag {'ok' if check.passed else check.level}"
            ),
            join(sentence(check.expectation), el("small", _explained(check), class_="block")),
            "—" if check.observed is None else shown(check.observed),
            check.allowed,
            ", ".join(check.examples),
        )
        for check in checks
    ]
    head = (".answer", "expectation", "found", "allowed", "for example")
    return table(head, rows, numbers=(2, 3), label=label, stack=True)


def _explained(check: Check) -> str:
    """The figure of a check that failed as a sentence, and the reason of its limit."""
    parts = [sentence(check.reason)] if check.passed else [sentence(check.explanation), sentence(check.reason)]
    return ". ".join(part for part in parts if part)
