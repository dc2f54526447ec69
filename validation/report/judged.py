"""Every check of every gate: what was expected, what was found."""

from validation.checks import Check, shown
from validation.report.facts import Facts
from validation.report.markup import Html, card, el, join, table
from validation.report.verdict import sentence


def section(facts: Facts) -> Html | None:
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
