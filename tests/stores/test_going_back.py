"""Which release `rollback` makes live, and what `promote current` leaves behind."""

import shutil
from pathlib import Path

import pytest

from stores.errors import BusyError, NotFoundError
from stores.feast.online_store import OnlineStoreWriter
from stores.publishing import publish
from stores.publishing.journal import effective_time, read_plan
from stores.releases.lease import lease
from stores.releases.release import Release
from stores.releases.workspace import move_pointer

EVERYONE = list(range(12))


@pytest.fixture
def go(nights, config):
    """Makes moves of a workspace with three releases; what is live afterwards, by its number."""
    made = [nights.seal({0: seed}, {0: seed}) for seed in (1, 2, 3)]
    verbs = {"publish": lambda one: publish.publish(nights.workspace, one, config)}
    verbs["promote"] = lambda one: publish.promote(nights.workspace, one.release_id, config)

    def moves(*steps):
        for step in steps:
            verb, _, number = step.partition(" ")
            verbs[verb](made[int(number)]) if number else publish.rollback(nights.workspace, config)
        return [one.release_id for one in made].index(nights.workspace.current().release_id)

    return moves


def test_rollback_never_makes_a_release_live_that_was_taken_back(go):
    assert go("publish 0", "publish 1", "rollback", "publish 2", "rollback") == 0
    with pytest.raises(NotFoundError):
        go("rollback")


def test_rollback_makes_a_release_live_again_that_was_promoted_again(go):
    assert go("publish 0", "publish 1", "rollback", "promote 1", "publish 2", "rollback") == 1
    assert go("rollback") == 0


def test_rollback_goes_to_what_was_live_also_where_its_id_is_newer(go):
    assert go("publish 1", "publish 2", "promote 0", "rollback") == 2


def test_a_release_that_was_live_by_force_needs_no_force_to_be_live_again(nights, config):
    first, second, third = (nights.seal({0: seed}, {0: seed}, held=seed == 2) for seed in (1, 2, 3))
    publish.publish(nights.workspace, first, config)
    publish.promote(nights.workspace, second.release_id, config, why="looked at it", force=True)
    publish.publish(nights.workspace, third, config)
    publish.rollback(nights.workspace, config)
    assert nights.workspace.current().release_id == second.release_id


def test_a_publication_that_was_overtaken_cannot_move_the_pointer(nights, config, monkeypatch):
    first, second, third = (nights.seal({0: seed}, {0: seed}) for seed in (1, 2, 3))
    publish.publish(nights.workspace, first, config)
    storage = nights.workspace.storage
    with lease(storage, "old") as old:
        pass

    def asleep(*arguments):
        monkeypatch.undo()
        with lease(storage, "newer") as newer:
            publish.publish(nights.workspace, Release(nights.workspace.uri, third.release_id, newer), config)
        move_pointer(*arguments)

    monkeypatch.setattr("stores.publishing.publish_transaction.move_pointer", asleep)
    with pytest.raises(BusyError, match="newer"):
        publish.publish(nights.workspace, Release(nights.workspace.uri, second.release_id, old), config)
    assert nights.workspace.current().release_id == third.release_id
    assert read_plan(nights.workspace) is None


def test_a_publication_that_lost_the_lease_leaves_no_journal_and_no_pointer(nights, config):
    first, second = nights.seal({0: 1}, {0: 1}), nights.seal({0: 2}, {0: 2})
    publish.publish(nights.workspace, first, config)
    storage, late = nights.workspace.storage, Release(nights.workspace.uri, second.release_id, 1)
    for purpose in ("old", "newer"):
        with lease(storage, purpose):
            pass
    with pytest.raises(BusyError, match="taken over"):
        publish.publish(nights.workspace, late, config)
    assert read_plan(nights.workspace) is None
    with pytest.raises(BusyError, match="taken over"):
        move_pointer(nights.workspace, late, effective_time(nights.workspace))
    assert nights.workspace.current().release_id == first.release_id


def test_an_interrupted_rebuild_leaves_no_gap(nights, config, look, monkeypatch):
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(nights.workspace, first, config)
    for path in Path(nights.repository).glob("online.db*"):
        path.unlink()
    with monkeypatch.context() as broken:
        broken.setattr(OnlineStoreWriter, "write", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            publish.promote(nights.workspace, "current", config)
    second = nights.seal({**dict.fromkeys(range(9), 1), 3: 2}, {0: 1})
    publish.publish(nights.workspace, second, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))
    assert look.same_bits(look.online(nights, "title", EVERYONE), look.published(second, "titles"))


def test_a_rebuild_removes_what_an_older_copy_of_the_store_brought_back(nights, config, look):
    first, second = (nights.seal(dict.fromkeys(range(seed, 9), seed), {0: 1, seed: 1}) for seed in (1, 2))
    publish.publish(nights.workspace, first, config)
    online = Path(nights.repository) / "online.db"
    shutil.copy(online, online.with_name("copy"))
    publish.publish(nights.workspace, second, config)
    for path in online.parent.glob("online.db*"):
        path.unlink()
    online.with_name("copy").rename(online)
    publish.promote(nights.workspace, "current", config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))
    assert look.same_bits(look.online(nights, "title", EVERYONE), look.published(second, "titles"))


def test_a_folder_that_is_no_release_is_in_nobodys_way(local_nights, config):
    local_nights.workspace.storage.local("releases/lost+found").mkdir(parents=True)
    first, second = local_nights.seal({0: 1}, {0: 1}), local_nights.seal({0: 2}, {0: 2})
    publish.publish(local_nights.workspace, first, config)
    publish.publish(local_nights.workspace, second, config)
    publish.rollback(local_nights.workspace, config)
    assert local_nights.workspace.new_release_id("abcd", first.plan.as_of) > second.release_id
