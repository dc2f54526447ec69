"""Which releases gc may drop."""

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
    gone.storage.write("plan.json", gone.plan.model_copy(update={"model_id": "older"}).model_dump_json().encode())
    for model_id in (live.plan.model_id, "older", "next", "tuned"):
        workspace.models.write(f"{model_id}/config.json", b"{}")
    workspace.set_next_model("next")
    assert drop(workspace, keep=1) == [gone.release_id]
    assert set(workspace.models.folders()) == {live.plan.model_id, "next", "tuned"}


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
