"""A damaged file costs what it held, and stands in nobody's way."""

import pyarrow.compute as pc
import pytest

from stores.errors import CorruptError
from stores.feast import checksums
from stores.feast.offline_store import EPOCH
from stores.publishing import journal, publish, publish_transaction
from stores.publishing.space_publisher import SpacePublisher
from stores.releases.release import Release

EVERYONE = list(range(12))
SHARD = "members/part-00001.parquet"


def damage(release, path=SHARD, at=300):
    data = bytearray(release.storage.read(path))
    data[at] ^= 1
    release.storage.write(path, bytes(data))
    return Release(release.workspace_uri, release.release_id)


def three(nights):
    return [nights.seal(dict.fromkeys(range(seed, 9), seed), {0: seed}) for seed in (1, 2, 3)]


def served(look, nights, release):
    folders = {"member": "members", "title": "titles"}
    return all(
        look.same_bits(look.online(nights, entity, EVERYONE), look.published(release, folder))
        for entity, folder in folders.items()
    )


def told(nights):
    """Rows of the history of members, but for those of the beginning of time that Feast's Dask store is given."""
    history = nights.workspace.storage.dataset("feast/history/member_embedding").to_table()
    return history.filter(pc.field("event_timestamp") > EPOCH)


@pytest.mark.parametrize("path", [SHARD, "titles/part-00000.parquet"])
def test_a_damaged_release_does_not_go_live_and_everything_else_goes_on(nights, config, look, path):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, config)
    history = told(nights)
    damaged = damage(second, path)
    with pytest.raises(CorruptError, match=path):
        publish.publish(nights.workspace, damaged, config)
    assert journal.read_plan(nights.workspace) is None
    assert nights.workspace.pointer()["release_id"] == first.release_id
    assert served(look, nights, first)
    assert told(nights).equals(history)
    assert path in damaged.events()[-1]["why"]
    assert checksums.find_damaged(nights.workspace.storage) == []
    publish.promote(nights.workspace, first.release_id, config)
    publish.publish(nights.workspace, third, config)
    assert served(look, nights, third)
    publish.rollback(nights.workspace, config)
    assert served(look, nights, first)


@pytest.mark.parametrize("step", ["online", "pointer"])
def test_a_move_that_was_interrupted_and_cannot_be_completed_is_replaced(nights, config, look, monkeypatch, step):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, config)
    history = told(nights)
    with monkeypatch.context() as broken:
        broken.setattr(
            *{"online": (SpacePublisher, "write_online"), "pointer": (publish_transaction, "move_pointer")}[step], stop
        )
        with pytest.raises(ZeroDivisionError):
            publish.publish(nights.workspace, second, config)
    damaged = damage(second)
    publish.promote(nights.workspace, "current", config)
    assert served(look, nights, first)
    assert told(nights).equals(history)
    assert [event["event"] for event in damaged.events()] == ["given_up"]
    publish.publish(nights.workspace, third, config)
    assert served(look, nights, third)


def stop(*_, **__):
    return 1 // 0


def test_after_a_move_was_given_up_no_row_is_taken_for_granted(nights, config, look, monkeypatch):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, config)
    with monkeypatch.context() as broken:
        broken.setattr(publish_transaction, "move_pointer", stop)
        with pytest.raises(ZeroDivisionError):
            publish.publish(nights.workspace, second, config)
    damage(second)
    publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(1, 9), 1), {0: 1}), config)  # the first again
    assert served(look, nights, first)
    publish.publish(nights.workspace, third, config)
    assert served(look, nights, third)


@pytest.mark.parametrize("path", [SHARD, "manifest.json"])
def test_from_a_damaged_live_release_every_way_leads_on(nights, config, look, path):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, config)
    publish.publish(nights.workspace, second, config)
    damage(second, path)
    publish.publish(nights.workspace, third, config)
    assert served(look, nights, third)
    gone = told(nights).filter(pc.field("embedding").is_null())
    assert set(gone["member_id"].to_pylist()) == {1, 2}
    publish.promote(nights.workspace, first.release_id, config)
    assert served(look, nights, first)


@pytest.mark.parametrize("path", [SHARD, "manifest.json"])
def test_rolling_back_from_a_damaged_release_restores_the_earlier_answers(nights, config, look, path):
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(nights.workspace, first, config)
    before = look.rows(nights, "member", EVERYONE)
    second = nights.seal({**dict.fromkeys(range(9), 1), 4: 2, 10: 2}, {0: 1})  # both in the shard that is damaged
    publish.publish(nights.workspace, second, config)
    damage(second, path)
    publish.rollback(nights.workspace, config)
    assert look.rows(nights, "member", EVERYONE) == before
    gone = told(nights).filter(pc.field("embedding").is_null())
    assert gone["member_id"].to_pylist() == [10]


def test_a_damaged_history_does_not_hold_up_a_rebuild(local_nights, config, look):
    first, *_ = three(local_nights)
    publish.publish(local_nights.workspace, first, config)
    storage = local_nights.workspace.storage
    (path,) = storage.files("feast/history/member_embedding")
    storage.write(path, storage.read(path)[:-20])
    publish.promote(local_nights.workspace, "current", config)
    assert served(look, local_nights, first)


def test_a_damaged_event_of_an_old_release_does_not_stop_going_back(nights, config, look):
    oldest, second, third = three(nights)
    for release in (oldest, second, third):
        publish.publish(nights.workspace, release, config)
    (event,) = oldest.storage.files("events")
    damage(oldest, event, at=10)
    publish.rollback(nights.workspace, config)
    assert nights.workspace.pointer()["release_id"] == second.release_id
    assert served(look, nights, second)


def test_hashes_that_only_the_doctor_reads_hold_nobody_up(nights, config, look):
    first, second, _ = three(nights)
    publish.publish(nights.workspace, first, config)
    storage = nights.workspace.storage
    storage.write(checksums.CHECKSUMS_FILE, storage.read(checksums.CHECKSUMS_FILE)[:-9])
    publish.publish(nights.workspace, second, config)
    assert served(look, nights, second)
    assert checksums.find_damaged(storage) == []
