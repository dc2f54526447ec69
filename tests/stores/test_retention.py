"""Which releases gc may drop."""

import os
from time import time

import pytest

from stores import journal, publish
from stores.errors import StoreError
from stores.features.online import OnlineViews
from stores.retention import drop


def test_drops_the_oldest_but_never_the_live_one(nights, config):
    first, second, third = (nights.seal({0: night}, {0: 1}) for night in range(3))
    publish.publish(nights.workspace, first, config)
    assert drop(nights.workspace, keep=1) == [second.release_id]
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
    assert drop(workspace, keep=1) == [gone.release_id]
    assert set(workspace.models.folders()) == {live.plan.model_id, "next", "tuned"}


def test_what_killed_processes_left_goes(nights, config):
    release = nights.seal({0: 1}, {0: 1})
    publish.publish(nights.workspace, release, config)
    before = [info.path for info in nights.workspace.storage.infos()]
    for path in ("work/entries/x.json", "members/.tmp-1-part"):
        release.storage.write(path, b"")
    assert drop(nights.workspace, keep=1) == []
    assert [info.path for info in nights.workspace.storage.infos()] == before


def test_a_temporary_file_outside_of_releases_goes_when_it_is_old(local_nights, config):
    publish.publish(local_nights.workspace, local_nights.seal({0: 1}, {0: 1}), config)
    storage = local_nights.workspace.storage
    for name, age in (("old", 86400 * 2), ("new", 0)):
        storage.write(f"feast/.tmp-{name}", b"")
        os.utime(storage.local(f"feast/.tmp-{name}"), (time() - age,) * 2)
    drop(local_nights.workspace, keep=1)
    assert [info.base_name for info in storage.infos("feast") if "tmp" in info.path] == [".tmp-new"]


def test_a_release_that_was_going_live_when_the_night_died_stays(nights, config, monkeypatch):
    older, live, _ = (nights.seal({0: night}, {0: 1}) for night in range(3))
    publish.publish(nights.workspace, live, config)

    def refuse(*_):
        raise StoreError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(OnlineViews, "write", refuse)
        with pytest.raises(StoreError):
            publish.promote(nights.workspace, older.release_id, config)
    assert drop(nights.workspace, keep=1) == []
    publish.recover(nights.workspace, config)
    assert nights.workspace.pointer()["release_id"] == older.release_id
    assert journal.read_move(nights.workspace) is None
