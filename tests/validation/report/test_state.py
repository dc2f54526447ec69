"""The first line of a page says whether its release is live, as of a named moment, also after the pointer moved."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest

from stores.releases.release import Release
from stores.releases.workspace import Workspace, move_pointer
from validation.report import recently_moved, refresh_report, write_report
from validation.report.release_state import release_state

BEGIN = datetime(2026, 8, 1, tzinfo=UTC)
NOW = datetime(2026, 8, 20, 12, 30, tzinfo=UTC)


class Moves:
    """A workspace of sealed releases whose pointer is moved an hour at a time."""

    def __init__(self, nights: Any) -> None:
        self.nights, self.at = nights, BEGIN
        self.workspace = Workspace.open(nights.uri)

    def seal(self, status: str = "ready") -> Release:
        release = self.nights.seal(self.nights.stage())
        path = release.storage.local() / "manifest.json"
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, "status": status, "digest": ""}))
        return Release(self.nights.uri, release.release_id)

    def to(self, release: Release) -> Release:
        self.at += timedelta(hours=1)
        move_pointer(self.workspace, release, self.at)
        release.add_event("published", effective_at=self.at.isoformat())
        return release


@pytest.fixture
def moves(nights: Any) -> Moves:
    return Moves(nights)


def first_line(release: Release) -> tuple[str, str]:
    """The headline and the lead of the page as it lies there."""
    text = release.storage.read("report.html").decode()
    found = re.search(r"<h1><span[^>]*></span>([^<]*)</h1><p class=\"lead\">([^<]*)</p>", text)
    assert found
    return found[1], unescape(found[2])


def test_a_release_that_never_went_live_is_ready_or_held(moves: Moves) -> None:
    ready, held = moves.seal(), moves.seal("held")
    for release, headline in ((ready, "Ready, not live"), (held, "Held back")):
        write_report(release)
        assert first_line(release)[0] == headline
        assert first_line(release)[1].startswith("As of ")
    moves.to(live := moves.seal())
    assert live.release_id in release_state(ready, NOW).text


def test_a_move_is_said_on_both_pages_without_the_rest_being_made_again(moves: Moves) -> None:
    first, second = moves.to(moves.seal()), moves.seal()
    for release in (first, second):
        write_report(release)
    assert first_line(first) == ("Live", first_line(first)[1])
    assert "live since 01 August 2026, 01:00 UTC" in first_line(first)[1]
    rest = second.storage.read("report.html").decode().partition("</header>")[2]
    moves.to(second)
    assert {one.release_id for one in recently_moved(moves.workspace)} == {first.release_id, second.release_id}
    assert all(refresh_report(release) for release in recently_moved(moves.workspace))
    assert first_line(second)[0] == "Live"
    headline, lead = first_line(first)
    assert headline == "Replaced"
    assert f"replaced by {second.release_id}" in lead
    assert "from 01 August 2026, 01:00 UTC to 01 August 2026, 02:00 UTC" in lead
    text = second.storage.read("report.html").decode()
    assert text.partition("</header>")[2] == rest
    assert text.count("<header") == 1
    assert 'href="#' in text.partition("</header>")[0], "the links to the sections stay"


def test_going_back_is_told_from_going_on(moves: Moves) -> None:
    first, second = moves.to(moves.seal()), moves.to(moves.seal())
    moves.to(first)
    assert release_state(first, NOW).headline == "Live"
    back = release_state(second, NOW)
    assert back.headline == "Rolled back"
    assert f"rolled back to {first.release_id}" in back.text
    third = moves.to(moves.seal())
    assert release_state(second, NOW).headline == "Rolled back"
    assert f"replaced by {third.release_id}" in release_state(first, NOW).text
    moves.to(second)
    assert release_state(second, NOW).headline == "Live"


def test_a_live_release_that_is_read_back_wrong_or_was_forced_says_so(moves: Moves) -> None:
    forced = moves.to(moves.seal("held"))
    assert release_state(forced, NOW).headline == "Live, over a gate"
    forced.add_event("readback", passed=False, failed=["members read from Feast are the published ones: …"])
    assert release_state(forced, NOW).headline == "Live, read back wrong"
    moves.to(moves.seal())
    assert release_state(forced, NOW).headline == "Taken back"


def test_a_release_without_a_page_gets_none(moves: Moves) -> None:
    release = moves.seal()
    assert not refresh_report(release)
    assert not release.storage.exists("report.html")


def test_the_moment_of_writing_is_named(moves: Moves) -> None:
    assert release_state(moves.to(moves.seal()), NOW).text.startswith("As of 20 August 2026, 12:30 UTC: live since")
    assert release_state(moves.nights.stage()) is None
