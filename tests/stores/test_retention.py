"""Which releases gc may drop."""

import json
import os
from time import time

import pytest

from pipeline import health_checks
from pipeline.cli import main
from pipeline.config import Config
from stores.errors import BusyError, CorruptError, StoreError
from stores.feast.online_store import OnlineStoreWriter
from stores.files.filesystem import Storage, sha256
from stores.publishing import journal, publish
from stores.publishing.retention import collect_garbage
from stores.releases.lease import lease


def test_drops_the_oldest_but_never_the_live_one(nights, config):
    first, second, third = (nights.seal({0: night}, {0: 1}) for night in range(3))
    publish.publish(nights.workspace, first, config)
    assert collect_garbage(nights.workspace, keep=1) == [second.release_id]
    assert [release.release_id for release in nights.workspace.releases()] == [first.release_id, third.release_id]


def test_a_model_goes_with_the_last_release_that_ran_it(nights, config):
    workspace = nights.workspace
    gone, live = (nights.seal({0: night}, {0: 1}) for night in range(2))
    publish.publish(workspace, live, config)
    plan = gone.plan.model_copy(update={"model_id": "older"})
    gone.storage.write("manifest.json", gone.manifest.model_copy(update={"plan": plan}).to_bytes())
    for model_id in (live.plan.model_id, "older", "next", "tuned"):
        workspace.models.write(f"{model_id}/config.json", b"{}")
    workspace.set_next_model("next")
    assert collect_garbage(workspace, keep=1) == [gone.release_id]
    assert set(workspace.models.folders()) == {live.plan.model_id, "next", "tuned"}


def test_what_killed_processes_left_goes(nights, config):
    release = nights.seal({0: 1}, {0: 1})
    publish.publish(nights.workspace, release, config)
    before = [info.path for info in nights.workspace.storage.infos()]
    for path in ("work/entries/x.json", "members/.tmp-1-part"):
        release.storage.write(path, b"")
    assert collect_garbage(nights.workspace, keep=1) == []
    assert [info.path for info in nights.workspace.storage.infos()] == before


def test_a_temporary_file_outside_of_releases_goes_when_it_is_old(local_nights, config):
    publish.publish(local_nights.workspace, local_nights.seal({0: 1}, {0: 1}), config)
    storage = local_nights.workspace.storage
    for name, age in (("old", 86400 * 2), ("new", 0)):
        storage.write(f"feast/.tmp-{name}", b"")
        os.utime(storage.local(f"feast/.tmp-{name}"), (time() - age,) * 2)
    collect_garbage(local_nights.workspace, keep=1)
    assert [info.base_name for info in storage.infos("feast") if "tmp" in info.path] == [".tmp-new"]


def test_a_release_that_was_going_live_when_the_night_died_stays(nights, config, monkeypatch):
    older, live, _ = (nights.seal({0: night}, {0: 1}) for night in range(3))
    publish.publish(nights.workspace, live, config)

    def refuse(*_):
        raise StoreError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(OnlineStoreWriter, "write", refuse)
        with pytest.raises(StoreError):
            publish.promote(nights.workspace, older.release_id, config)
    assert collect_garbage(nights.workspace, keep=1) == []
    publish.recover(nights.workspace, config)
    assert nights.workspace.pointer()["release_id"] == older.release_id
    assert journal.read_plan(nights.workspace) is None


def with_models(nights, config):
    """Four releases, the newest live, the others with a model each, and one model for the next night."""
    made = [nights.seal({0: night}, {0: 1}) for night in range(4)]
    publish.publish(nights.workspace, made[-1], config)
    for number, release in enumerate(made[:-1]):
        plan = release.plan.model_copy(update={"model_id": f"m{number}"})
        release.storage.write("manifest.json", release.manifest.model_copy(update={"plan": plan}).to_bytes())
        release.storage.write("plan.json", plan.model_dump_json().encode())
        hashes = json.dumps({"weights.safetensors": sha256(b"weights")}).encode()
        for name, data in {"weights.safetensors": b"weights", "hashes.json": hashes}.items():
            nights.workspace.models.write(f"m{number}/{name}", data)
    nights.workspace.models.write("next/config.json", b"{}")
    nights.workspace.set_next_model("next")
    return made


@pytest.mark.parametrize("step", range(13))
def test_what_a_killed_gc_left_goes_with_the_next(local_nights, config, monkeypatch, step):
    """It is killed before each of the deletions of files and folders that it makes, and in the middle of a folder."""
    workspace, made = local_nights.workspace, with_models(local_nights, config)
    left, delete, delete_tree = [step], Storage.delete, Storage.delete_tree

    def dying_delete(self, path):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        delete(self, path)

    def dying_delete_tree(self, folder):
        if not left[0]:
            for inside in self.files(folder)[:1]:
                delete(self, inside)
            raise KeyboardInterrupt
        left[0] -= 1
        delete_tree(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", dying_delete)
        patch.setattr(Storage, "delete_tree", dying_delete_tree)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(workspace, keep=1)
    assert main(["releases", "--workspace", workspace.uri, "--json"]) == 0
    assert {one["state"] for one in health_checks.verify_files(workspace)} == {"ok"}
    assert "bad" not in {
        one["state"] for one in health_checks.check_environment(Config(workspace=workspace.uri), workspace)
    }
    collect_garbage(workspace, keep=1)
    assert [path.split("/")[1] for path in workspace.storage.files("releases")] == [made[-1].release_id] * len(
        made[-1].storage.files()
    )
    assert workspace.models.folders() == ["next"]
    assert workspace.storage.files("journal") == ["journal/live.json"]


def test_a_release_without_a_manifest_goes_but_an_unfinished_night_stays(local_nights, config):
    workspace = local_nights.workspace
    half, live = (local_nights.seal({0: night}, {0: 1}) for night in range(2))
    publish.publish(workspace, live, config)
    half.storage.delete("manifest.json")  # as an earlier version left it, with its plan
    unfinished = [
        workspace.stage(live.plan.model_copy(update={"release_id": f"20260801T02000{number}Z-00ff"}), token=0)
        for number in range(2)
    ]
    unfinished[1].token = None
    unfinished[1].write_bytes("members/part-00000.parquet", b"")
    assert [release.release_id for release in workspace.half_deleted()] == [half.release_id]
    found = health_checks.check_environment(Config(workspace=workspace.uri), workspace)
    (named,) = (one for one in found if one["what"] == "half-deleted")
    assert half.release_id in named["says"]
    assert collect_garbage(workspace, keep=5) == [half.release_id]
    assert [release.release_id for release in workspace.staged()] == [release.release_id for release in unfinished]


def test_a_gc_that_was_taken_over_drops_nothing(local_nights, config):
    workspace, _ = local_nights.workspace, with_models(local_nights, config)
    with lease(workspace.storage, "gc") as old:
        pass
    with lease(workspace.storage, "promote"), pytest.raises(BusyError, match="taken over"):
        collect_garbage(workspace, keep=1, token=old)
    assert len(workspace.releases()) == 4


def test_a_damaged_manifest_of_a_release_that_may_go_goes_and_of_one_that_stays_is_named(local_nights, config):
    workspace, made = local_nights.workspace, with_models(local_nights, config)
    made[0].storage.write("manifest.json", b"[]")
    assert collect_garbage(workspace, keep=2) == [made[0].release_id, made[1].release_id]
    made[2].storage.write("manifest.json", b"")
    with pytest.raises(CorruptError, match=made[2].release_id) as caught:
        collect_garbage(workspace, keep=2)
    assert f"remove the folder releases/{made[2].release_id}" in caught.value.fix


def test_readers_pass_over_a_release_that_is_dropped_while_they_look(local_nights, config, monkeypatch, capsys):
    workspace, made = local_nights.workspace, with_models(local_nights, config)
    release = workspace.release(made[0].release_id)
    assert release.manifest
    listed = workspace.releases()
    workspace.remove(made[0])
    with pytest.raises(Exception, match="dropped while it was read"):
        release.read_bytes("members/part-00000.parquet")
    monkeypatch.setattr(type(workspace), "releases", lambda _: listed)
    assert main(["releases", "--workspace", workspace.uri]) == 0
    assert made[0].release_id not in capsys.readouterr().out
