"""The state of a release as of the moment of writing: live, ready, held, replaced or rolled back.

Pages outlive the moment in which they were written, so each names that moment, and `refresh` writes the header of a
page again after the pointer moved.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from stores.errors import CorruptError
from stores.releases.release import Release
from stores.releases.workspace import Workspace

MOVE_EVENTS = ("published", "promoted")
_MOMENT = "%d %B %Y, %H:%M UTC"


@dataclass(frozen=True)
class ReleaseState:
    """`light` is a class of the style sheet (good, held, doubt); `text` says since when, as of which moment."""

    style_class: str
    headline: str
    text: str


def release_state(release: Release, now: datetime | None = None) -> ReleaseState | None:
    """The state of a sealed release; None for one that a night has not finished."""
    if not release.sealed:
        return None
    workspace, at = Workspace.open(release.workspace_uri), f"As of {now or datetime.now(UTC):{_MOMENT}}"
    pointer = workspace.pointer()
    if pointer is not None and pointer["release_id"] == release.release_id:
        return _live(release, datetime.fromisoformat(pointer["promoted_at"]), at)
    moves = _moves(workspace)
    own = [place for place, (_, release_id) in enumerate(moves) if release_id == release.release_id]
    if readback_failures(release):
        return ReleaseState(
            "held", "Taken back", f"{at}: not live. Consumers read something other than what was published."
        )
    if own:
        return _left(moves, own[-1], at)
    if release.manifest.status == "held":
        return ReleaseState("held", "Held back", f"{at}: not published. What was live stays live.")
    beside = f"live is {pointer['release_id']}" if pointer else "nothing is live"
    return ReleaseState("doubt", "Ready, not live", f"{at}: sealed and not published, {beside}.")


def readback_failures(release: Release) -> list[str]:
    """The failures that the last read-back of published rows found; empty where it found none or did not run."""
    readbacks = [event for event in release.events() if event["event"] == "readback"]
    return list(readbacks[-1]["failed"]) if readbacks else []


def _live(release: Release, since: datetime, at: str) -> ReleaseState:
    text = f"{at}: live since {since:{_MOMENT}}."
    if readback_failures(release):
        return ReleaseState(
            "held", "Live, read back wrong", f"{text} Consumers read something other than what was published."
        )
    if release.manifest.status == "held":
        return ReleaseState("doubt", "Live, over a gate", f"{text} It was promoted although checks hold it.")
    return ReleaseState("good", "Live", text)


def _left(moves: list[tuple[datetime, str]], place: int, at: str) -> ReleaseState:
    """The state of a release that was live: a move to one that was live before it went back, any other replaced it."""
    began, own = moves[place]
    later = [(when, other) for when, other in moves[place + 1 :] if other != own]
    if not later:  # the event of the move that replaced it is not written yet, or is damaged
        return ReleaseState("doubt", "Replaced", f"{at}: no longer live; it was since {began:{_MOMENT}}.")
    ended, after = later[0]
    span = f"it was from {began:{_MOMENT}} to {ended:{_MOMENT}}."
    if after in {release_id for _, release_id in moves[:place]}:
        return ReleaseState("held", "Rolled back", f"{at}: not live, rolled back to {after}; {span}")
    return ReleaseState("doubt", "Replaced", f"{at}: not live, replaced by {after}; {span}")


def _moves(workspace: Workspace) -> list[tuple[datetime, str]]:
    """Every move of the pointer, oldest first; those of releases whose events are damaged are left out."""
    found: list[tuple[datetime, str]] = []
    for release in workspace.releases():
        with suppress(CorruptError):
            events = [event for event in release.events() if event["event"] in MOVE_EVENTS]
            found += [(datetime.fromisoformat(e.get("effective_at", e["at"])), release.release_id) for e in events]
    return sorted(found)


def recently_moved(workspace: Workspace, moves: int = 3) -> list[Release]:
    """The releases that the last moves of the pointer made live, without repeats."""
    latest = dict.fromkeys(release_id for _, release_id in _moves(workspace)[: -moves - 1 : -1])
    return [Release(workspace.uri, release_id) for release_id in latest]


HEADER = re.compile(r"<header\b.*?</header>", re.S)
