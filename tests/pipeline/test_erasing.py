"""The command `erase`: reports show the member no more, whenever it is interrupted."""

import pytest

from pipeline import erasing
from pipeline.config import Config
from stores import publish
from stores.workspace import Workspace
from tests.stores.conftest import Nights

NOBODY = "member-four-of-nine"


@pytest.fixture
def reported(tmp_path):
    """A published release with a report that shows the member, and one without a report."""
    place = tmp_path / "workspace"
    nights = Nights(Workspace.open(str(place)), str(place / "feast"), lambda i: NOBODY if i == 4 else f"m{i}")
    first, second = (nights.seal(dict.fromkeys(range(9), seed), {0: 1}) for seed in (1, 2))
    publish.publish(nights.workspace, first, publish.PublishConfig(registry_ttl_s=1))
    first.storage.write(erasing.PAGE, NOBODY.encode())
    return nights.workspace, first, second


def test_reports_are_written_anew(reported):
    workspace, first, second = reported
    erasing.erase_member(Config(workspace=workspace.uri), NOBODY, "a request")
    assert NOBODY.encode() not in first.storage.read(erasing.PAGE)
    assert first.release_id.encode() in first.storage.read(erasing.PAGE)
    assert not second.storage.exists(erasing.PAGE)


def test_a_report_that_was_not_written_shows_nobody(reported, monkeypatch):
    workspace, first, _ = reported
    monkeypatch.setattr(erasing, "write_report", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        erasing.erase_member(Config(workspace=workspace.uri), NOBODY, "")
    assert not first.storage.exists(erasing.PAGE)
