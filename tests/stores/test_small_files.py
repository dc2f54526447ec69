"""Every small JSON file of a workspace, damaged in every way: an error that names the file and a cure that works."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline import health_checks
from pipeline.cli import main
from pipeline.config import Config
from stores.errors import CorruptError
from stores.feast.repository import FeatureRepository
from stores.files.checksummed_json import MAX_BYTES
from stores.publishing import command_intent, erasure, journal, publish
from stores.publishing.suppression_list import read_suppression_list, suppress
from stores.releases.lease import check_token, current_lease, lease
from stores.releases.workspace import POINTER, Workspace
from tests.stores.conftest import Nights

CONFIG = publish.PublishConfig(registry_ttl_s=1)
DAMAGE = {
    "empty": b"",
    "binary": b"\x00\xff\xfe\x80" * 9,
    "no JSON": b"release_id = 20260701T020000Z-0000",
    "cut off": b'{"release_id": "2026',
    "a list": b"[]",
    "pairs": b'[["release_id", "x"]]',
    "a number": b"7",
    "null": b"null",
    "no keys": b"{}",
    "wrong types": b'{"release_id": 7, "token": "x", "salt": [], "model_id": {}, "1": 3, "views": 1, "format": 2}',
    "another version": b'{"format": 99, "live": {"id": "x"}, "lease": 1}',
    "deep": b"[" * 200_000,
}
LOOKS = {
    POINTER: lambda workspace: workspace.pointer(),
    "lease.json": lambda workspace: current_lease(workspace.storage),
    journal.PUBLISHED_STATE: lambda workspace: journal.published_state(workspace.storage),
    journal.PUBLISH_JOURNAL: journal.read_plan,
    erasure.ERASE_JOURNAL: lambda workspace: erasure.read_erasure(workspace.storage),
    "suppressed.json": lambda workspace: read_suppression_list(workspace.storage),
    "models/next.json": lambda workspace: workspace.next_model(),
    "feast/views.json": lambda workspace: FeatureRepository(workspace.storage, CONFIG).described(),
}
MAY_BE_EMPTY = {("no keys", journal.PUBLISHED_STATE)}
"""`live.json` without a key says that no view holds anything, which is what it says before the first release."""


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two published releases, an erased member and a model."""
    place = tmp_path_factory.mktemp("small") / "workspace"
    nights = Nights(Workspace.open(str(place)), str(place / "feast"))
    for seed in (1, 2):
        publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(9), seed), {0: seed}), CONFIG)
    suppress(nights.workspace.storage, 77)
    nights.workspace.models.write("m/config.json", b"{}")
    nights.workspace.set_next_model("m")
    return place


@pytest.fixture
def workspace(published: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(published, tmp_path / "workspace")
    return Workspace.open(str(tmp_path / "workspace"))


def live_seed(workspace: Workspace) -> float:
    """The first number of the vector that Feast serves of member 1."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(workspace.storage.local("feast")))
    served = store.get_online_features(["member_embedding:embedding"], [{"member_id": 1}]).to_dict()
    return float(served["embedding"][0][0])


@pytest.mark.parametrize("path", LOOKS)
def test_damage_is_named_with_a_cure(workspace: Workspace, path: str) -> None:
    for kind, data in DAMAGE.items():
        workspace.storage.write(path, data)
        if (kind, path) in MAY_BE_EMPTY:
            continue
        with pytest.raises(CorruptError) as caught:
            LOOKS[path](workspace)
        assert Path(path).name in caught.value.what, kind
        assert caught.value.fix, kind
        assert "report this" not in str(caught.value), kind


@pytest.mark.parametrize("path", LOOKS)
def test_a_folder_or_a_huge_file_in_its_place_is_named(workspace: Workspace, path: str) -> None:
    place = workspace.storage.local(path)
    place.unlink(missing_ok=True)
    place.mkdir(parents=True)
    with pytest.raises(CorruptError, match="folder") as caught:
        LOOKS[path](workspace)
    assert "move the folder away" in caught.value.fix
    place.rmdir()
    with place.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    with pytest.raises(CorruptError, match=Path(path).name):
        LOOKS[path](workspace)


@pytest.mark.parametrize("path", LOOKS)
def test_the_doctor_and_the_list_name_damage_and_look_on(workspace: Workspace, path: str) -> None:
    config = Config(workspace=workspace.uri)
    sound = health_checks.verify_files(workspace)
    for kind in ("empty", "a list", "wrong types"):
        workspace.storage.write(path, DAMAGE[kind])
        findings = health_checks.verify_files(workspace)
        named = [one for one in findings if one["state"] == "bad" and Path(path).name in one["says"]]
        assert named, kind
        assert all(one["try"] for one in named), kind
        others = {one["what"] for one in findings if one["state"] == "ok"}
        assert {one["what"] for one in sound if one["what"].startswith("2026")} <= others, kind
        health_checks.check_environment(config, workspace)
    assert main(["releases", "--workspace", workspace.uri]) == 0
    assert main(["doctor", "--verify", "--workspace", workspace.uri]) == 1


def test_what_the_cures_say_works(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file is damaged, the command names the cure, the cure is taken, and the command works."""
    first, second = (release.release_id for release in workspace.releases())
    where = ["--workspace", workspace.uri, "--set", "publish.registry_ttl_s=1"]
    expected = live_seed(workspace)
    for path in (POINTER, "lease.json", journal.PUBLISHED_STATE, journal.PUBLISH_JOURNAL, "feast/views.json"):
        workspace.storage.write(path, b"{")
        assert main(["promote", "current", *where]) == 1, path
        told = capsys.readouterr().err
        assert Path(path).name in told, path
        assert "delete" in told, path
        assert "Traceback" not in told, path
        workspace.storage.delete(path)
        assert main(["promote", second if path == POINTER else "current", *where]) == 0, path
        assert workspace.current().release_id == second, path
        assert live_seed(workspace) == expected, path
        assert "bad" not in {one["state"] for one in health_checks.verify_files(workspace)}, path
    assert main(["rollback", *where]) == 0
    assert workspace.current().release_id == first


def test_a_damaged_journal_of_an_erasure_is_cured_by_erasing_again(workspace: Workspace) -> None:
    where = ["--workspace", workspace.uri, "--set", "publish.registry_ttl_s=1"]
    workspace.storage.write(erasure.ERASE_JOURNAL, b"[]")
    assert main(["erase", "4", *where]) == 1
    workspace.storage.delete(erasure.ERASE_JOURNAL)
    assert main(["erase", "4", *where]) == 0
    ids = {member for release in workspace.releases() for member in release.table("members")["member_id"].to_pylist()}
    assert ids == set(range(9)) - {4}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_intent_holds_no_command_up(workspace: Workspace, kind: str) -> None:
    workspace.storage.write(command_intent.INTENT_FILE, DAMAGE[kind])
    assert command_intent.interrupted_intent(workspace, "rollback", {}) is None
    begun = command_intent.record_intent(workspace, "rollback", {})
    assert not begun.repeated


def test_a_night_whose_lease_is_damaged_stops_and_gives_back_a_sound_one(workspace: Workspace) -> None:
    with lease(workspace.storage, "a night") as token:
        workspace.storage.write("lease.json", b"")
        with pytest.raises(CorruptError, match=r"lease\.json"):
            check_token(workspace.storage, token)
    with lease(workspace.storage, "the next") as later:
        assert later == token + 1


def test_a_lease_that_somebody_removed_never_gives_an_old_token_again(workspace: Workspace) -> None:
    with lease(workspace.storage, "a night") as old:
        workspace.storage.delete("lease.json")
        with lease(workspace.storage, "another") as new:
            assert new > old


@pytest.mark.parametrize("kind", ["empty", "a list", "no keys", "wrong types", "deep"])
@pytest.mark.parametrize("name", ["manifest.json", "plan.json", "events"])
def test_damage_in_an_old_release_is_named_and_holds_nothing_else_up(
    workspace: Workspace, name: str, kind: str
) -> None:
    oldest = workspace.releases()[0]
    path = oldest.storage.files("events")[0] if name == "events" else name
    oldest.storage.write(path, DAMAGE[kind])
    findings = health_checks.verify_files(workspace)
    (named,) = (one for one in findings if one["what"] == oldest.release_id)
    told = {"manifest.json": "manifest"}.get(name, path)
    assert named["state"] == "bad"
    assert told in named["says"]
    assert named["try"]
    assert [one["state"] for one in findings if one["what"] == workspace.releases()[1].release_id] == ["ok"]
    assert main(["releases", "--workspace", workspace.uri, "--json"]) == 0
    assert [one.release_id for one in workspace.readable()] == [
        one.release_id for one in workspace.releases() if name != "manifest.json" or one.release_id != oldest.release_id
    ]


def test_a_damaged_file_of_a_model_is_named(workspace: Workspace) -> None:
    workspace.models.write("m/hashes.json", json.dumps({"config.json": "0" * 64}).encode())
    (found,) = (one for one in health_checks.verify_files(workspace) if one["what"] == "models")
    assert found["state"] == "bad"
    assert "models/m/config.json" in found["says"]
