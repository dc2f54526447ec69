"""Print the progress of a run: one line for each stage, and where its report is."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace
from stores.terminal import escape_controls
from validation.checks import Check
from validation.report import recently_moved, refresh_report, write_report


class ConsoleReporter:
    """Writes lines for people: on stdout, or on stderr where stdout belongs to `--json`."""

    def __init__(self, as_json: bool = False) -> None:
        self.out: TextIO = sys.stderr if as_json else sys.stdout

    def line(self, text: str) -> None:
        """One line, at once."""
        print(escape_controls(text), file=self.out, flush=True)

    def night_started(self, release: Release, resumed: bool) -> None:
        """The head line of a night."""
        plan = release.plan
        verb = "resuming" if resumed else "night"
        self.line(f"{verb} {plan.release_id}  as of {plan.as_of:%Y-%m-%d %H:%M} UTC  model {plan.model_id[:12]}")

    def stage_finished(self, report: StageReport) -> None:
        """What a stage did and how long it took."""
        told = _LINES[report.name](report.metrics) if report.name in _LINES else ""
        first, *more = told.split("\n")
        self.line(f"  {report.name:<13} {report.seconds:7.1f} s  {first}".rstrip())
        for line in more:
            self.line(f"  {'':<13} {'':7}    {line}")


def _histories(metrics: dict[str, Any]) -> str:
    refused = sum(metrics["refused"].values())
    return (
        f"{metrics['events_accepted']:,} events of {metrics['members']:,} members on {metrics['titles']:,} titles, "
        f"{metrics['tokens']:,} tokens, {refused:,} rows refused"
    )


def _encode(metrics: dict[str, Any]) -> str:
    done = f"{metrics['shards_encoded']} of {metrics['shards']} shards encoded"
    carried = f", {metrics['carried']:,} members carried forward" if metrics.get("carried") else ""
    notes = "".join(f"\n{'':16}note: {note}" for note in metrics.get("probe", {}).get("notes", ()))
    return f"{metrics['members']:,} members and {metrics['titles']:,} titles x {metrics['dim']}, {done}{carried}{notes}"


def _align(metrics: dict[str, Any]) -> str:
    text = f"{metrics['outcome'].replace('_', ' ')} {metrics['space_id']}"
    p50 = metrics.get("heldout_cosine_p50")
    return text if p50 is None else f"{text}, held-out anchors cosine {p50:.3f} (median)"


def _gate(metrics: dict[str, Any]) -> str:
    checks = metrics["checks"]
    failed = [Check.model_validate(check) for check in checks if not check["passed"]]
    lines = [f"warning: {check.explanation}" for check in failed if check.level == "warn"]
    return "\n".join([f"{sum(check['passed'] for check in checks)} of {len(checks)} checks passed", *lines])


def _compare(metrics: dict[str, Any]) -> str:
    if not metrics["questions"]:
        return f"not compared: {metrics['why']}"
    pairs = metrics["against"]["current"]
    hits = {name: (pairs["both"] + pairs[name]) / metrics["questions"] for name in ("model", "other")}
    return f"HR@10 {hits['model']:.4f}, live model {hits['other']:.4f}, on {metrics['questions']:,} later events"


def _index(metrics: dict[str, Any]) -> str:
    return f"recall@10 candidates {metrics['candidates']['recall']:.4f}, similar {metrics['similar']['recall']:.4f}"


def _previous_spaces(metrics: dict[str, Any]) -> str:
    told = (f"space {space} {_fate(old, metrics)}" for space, old in metrics["spaces"].items())
    return "; ".join(told) or "there is no older space"


def _fate(old: dict[str, Any], metrics: dict[str, Any]) -> str:
    if old["release_id"] == metrics["release_id"]:
        return "follows the new model"
    return f"is frozen at {old['release_id']}: {'; '.join(old['reasons'])}"


def _publish(metrics: dict[str, Any]) -> str:
    return f"{metrics['online_members']:,} members and {metrics['online_titles']:,} titles changed in Feast; now live"


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "histories": _histories,
    "gate_input": _gate,
    "encode": _encode,
    "compare_models": _compare,
    "align": _align,
    "gate_vectors": _gate,
    "index": _index,
    "gate_index": _gate,
    "previous_spaces": _previous_spaces,
    "publish": _publish,
    "readback": _gate,
}


def write_night_report(workspace: Workspace, release: Release, tell: ConsoleReporter) -> None:
    """Write a night's page, and the state of the releases that it replaced into theirs.

    The release stays as it is where that fails, and a line says so.
    """
    try:
        write_report(release)
    except Exception as error:
        tell.line(f"  the report could not be written ({type(error).__name__}: {error}); try samespace report")
    refresh_reports(workspace, tell)


def refresh_reports(workspace: Workspace, tell: ConsoleReporter) -> None:
    """Write the first line of the pages of the releases that last went live or left, as of now.

    A page that cannot be written keeps its earlier line, which names its own moment; a line of the command says so.
    """
    try:
        for release in recently_moved(workspace):
            refresh_report(release)
    except Exception as error:
        tell.line(f"  a report could not be written again ({type(error).__name__}: {error}); try samespace report")
