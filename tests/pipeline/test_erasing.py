"""The command `erase`: reports show the member no more, whenever it is interrupted."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.commands import erase
from pipeline.config import Config
from stores.errors import BusyError, NotFoundError
from stores.publishing import erasure, publish
from stores.publishing.retention import collect_garbage
from stores.releases.workspace import Workspace
from tests.stores.conftest import Nights

NOBODY = "member-four-of-nine"


@pytest.fixture
def reported(tmp_path):
    """A published release with a report that shows the member, and one without a report."""
    place = tmp_path / "workspace"
    nights = Nights(Workspace.open(str(place)), str(place / "feast"), lambda i: NOBODY if i == 4 else f"m{i}")
    first, second = (nights.seal(dict.fromkeys(range(9), seed), {0: 1}) for seed in (1, 2))
    publish.publish(nights.workspace, first, publish.PublishConfig(registry_ttl_s=1))
    first.storage.write(erase.PAGE, NOBODY.encode())
    return nights.workspace, first, second


def test_reports_are_written_anew(reported):
    workspace, first, second = reported
    erase.erase_member(Config(workspace=workspace.uri), NOBODY, "a request")
    assert NOBODY.encode() not in first.storage.read(erase.PAGE)
    assert first.release_id.encode() in first.storage.read(erase.PAGE)
    assert not second.storage.exists(erase.PAGE)


def test_a_report_that_was_not_written_shows_nobody(reported, monkeypatch):
    workspace, first, _ = reported
    monkeypatch.setattr(erase, "write_report", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        erase.erase_member(Config(workspace=workspace.uri), NOBODY, "")
    assert not first.storage.exists(erase.PAGE)


class KilledError(BaseException):
    """The process ends here."""


def killed(*_: object, **__: object) -> None:
    raise KilledError


@pytest.mark.parametrize(
    "place",
    [
        (erasure, "_erase_release"),
        (erasure, "_erase_online"),
        (erasure.Release, "add_event"),
        (erase, "write_report"),
    ],
)
def test_an_erasure_that_was_killed_and_is_given_again_gives_its_receipt_and_writes_the_reports(
    reported: Any, place: tuple[Any, str], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, first, second = reported
    words = ["erase", NOBODY, "--workspace", workspace.uri, "--set", "publish.registry_ttl_s=1", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, killed)
        with pytest.raises(KilledError):
            main(words)
    capsys.readouterr()
    assert main(words) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["completed"]
    assert receipt["releases"] == {release.release_id: 2 for release in (first, second)}
    assert receipt["history_files"] == 1
    assert first.release_id.encode() in first.storage.read(erase.PAGE)
    for release in workspace.releases():
        assert [event["event"] for event in release.events()].count("erased") == 1
    assert main(words) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["completed"], again["releases"]) == (False, {})
    assert set(again["erased_before"]) == {first.release_id, second.release_id}


def test_while_a_member_is_erased_no_report_is_written(reported: Any) -> None:
    workspace, first, _ = reported
    workspace.storage.write(erasure.ERASE_JOURNAL, b"{}")
    with pytest.raises(BusyError, match="erased"):
        erase.report_of(workspace, first)
    assert first.storage.read(erase.PAGE) == NOBODY.encode()


@pytest.mark.parametrize("meanwhile", ["erased", "dropped"])
def test_a_report_that_an_erasure_or_a_gc_overtook_leaves_nothing(
    reported: Any, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, first, second = reported
    release = first if meanwhile == "erased" else second
    config = publish.PublishConfig(registry_ttl_s=1)
    overtaken: dict[str, Callable[[], object]] = {
        "erased": lambda: erasure.erase(workspace, NOBODY, config),
        "dropped": lambda: workspace.remove(release),
    }

    def late(release: Any) -> str:
        overtaken[meanwhile]()
        release.storage.write(erase.PAGE, NOBODY.encode())
        return f"{release.storage.uri}/{erase.PAGE}"

    monkeypatch.setattr(erase, "write_report", late)
    with pytest.raises((BusyError, NotFoundError), match=r"erased|no sealed release"):
        erase.report_of(workspace, workspace.release(release.release_id))
    assert not release.storage.exists(erase.PAGE)
    assert workspace.half_deleted() == []
    assert collect_garbage(workspace, keep=5) == []
