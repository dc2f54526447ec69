"""Two slots: the next release is written beside the live one, and services move to it in one write."""

from pathlib import Path

import numpy as np
import pytest

from stores.errors import CorruptError
from stores.feast.repository import FeatureRepository
from stores.publishing import publish, publish_transaction, space_publisher

EVERYONE = list(range(9))


@pytest.fixture
def slots(config):
    return config.model_copy(update={"slots": 2, "registry_ttl_s": 1})


def through_service(look, nights, service="embeddings_v1"):
    """Members and titles as a consumer of the service reads them, and the release that the service names."""
    store = look.store(nights)
    found = store.get_feature_service(service)
    rows = [{"member_id": i, "title_id": i % 3} for i in EVERYONE]
    served = store.get_online_features(found, rows, full_feature_names=True).to_dict()
    read = {}
    for entity in ("member", "title"):
        name = next(name for name in served if name.startswith(entity) and name.endswith("__embedding"))
        pairs = zip(served[f"{entity}_id"], served[name], strict=True)
        read[f"{entity}s"] = {i: np.asarray(v, np.float32) for i, v in pairs if v is not None}
    return read, dict(found.tags)


def holds(look, nights, release, service="embeddings_v1"):
    read, tags = through_service(look, nights, service)
    same = all(look.same_bits(read[folder], look.published(release, folder)) for folder in ("members", "titles"))
    return same and tags["release_id"] == release.release_id


def three(nights):
    return [nights.seal(dict.fromkeys(range(seed, 9), seed), dict.fromkeys(range(3), seed)) for seed in (1, 2, 3)]


def test_the_service_always_holds_one_release_and_the_other_stays_readable(nights, slots, look):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, slots)
    assert holds(look, nights, first)
    publish.publish(nights.workspace, second, slots)
    assert holds(look, nights, second)
    blue, green = (
        look.online(nights, "member", EVERYONE),
        look.online(nights, "member", EVERYONE, "member_embedding_green"),
    )
    assert look.same_bits(blue, look.published(first, "members"))
    assert look.same_bits(green, look.published(second, "members"))
    publish.publish(nights.workspace, third, slots)
    assert holds(look, nights, third)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(third, "members"))


def test_rollback_writes_no_row(nights, slots, look):
    first, second, _ = three(nights)
    publish.publish(nights.workspace, first, slots)
    publish.publish(nights.workspace, second, slots)
    report = publish.rollback(nights.workspace, slots)
    assert report.rows == 0
    assert holds(look, nights, first)
    assert nights.workspace.pointer()["release_id"] == first.release_id


@pytest.mark.parametrize("step", ["write", "set_published_state", "change", "move_pointer", "close_plan"])
def test_an_interrupted_move_never_shows_two_releases(local_nights, slots, look, monkeypatch, step):
    nights = local_nights
    first, second, _ = three(nights)
    publish.publish(nights.workspace, first, slots)
    with monkeypatch.context() as broken:
        if step == "write":
            real = space_publisher.OnlineStoreWriter.write
            broken.setattr(space_publisher.OnlineStoreWriter, "write", lambda *args: (real(*args), 1 // 0))
        elif step == "change":
            broken.setattr(FeatureRepository, "update", lambda *_: 1 // 0)
        else:
            broken.setattr(
                space_publisher if step == "set_published_state" else publish_transaction, step, lambda *_, **__: 1 // 0
            )
        with pytest.raises(ZeroDivisionError):
            publish.publish(nights.workspace, second, slots)
    read, tags = through_service(look, nights)
    live = first if tags["release_id"] == first.release_id else second
    assert all(look.same_bits(read[folder], look.published(live, folder)) for folder in read)
    publish.recover(nights.workspace, slots)
    assert holds(look, nights, second)


def test_a_request_that_began_before_the_service_moves_is_answered_by_the_old_slot(local_nights, slots, look):
    nights, patient = local_nights, slots.model_copy(update={"registry_ttl_s": 60})
    first, second, _ = three(nights)
    publish.publish(nights.workspace, first, patient)
    store, rows = look.store(nights), [{"member_id": i, "title_id": i % 3} for i in EVERYONE]
    service = store.get_feature_service("embeddings_v1")
    publish.publish(nights.workspace, second, patient)
    served = store.get_online_features(service, rows, full_feature_names=True).to_dict()
    read = zip(EVERYONE, served["member_embedding__embedding"], strict=True)
    expected = look.published(first, "members")
    assert all(np.asarray(v, np.float32).tobytes() == expected[i].tobytes() for i, v in read if v is not None)
    assert holds(look, nights, second)


def test_the_idle_slot_is_left_alone_while_readers_may_still_use_it(local_nights, slots, look, monkeypatch):
    nights, slept = local_nights, []
    releases = three(nights)
    patient = slots.model_copy(update={"registry_ttl_s": 30})
    for release in releases[:2]:
        publish.publish(nights.workspace, release, patient)
    clock = space_publisher.datetime

    class Later(clock):
        @classmethod
        def now(cls, tz=None):
            return clock.now(tz) + space_publisher.timedelta(seconds=sum(slept))

    monkeypatch.setattr(space_publisher, "datetime", Later)
    monkeypatch.setattr(space_publisher, "sleep", slept.append)
    publish.publish(nights.workspace, releases[2], patient)
    assert 20 < sum(slept) <= 32


def test_from_one_slot_to_two_and_back(local_nights, config, slots, look):
    nights = local_nights
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, config)
    publish.publish(nights.workspace, second, slots)
    assert holds(look, nights, second)
    publish.publish(nights.workspace, third, config)
    read, _ = through_service(look, nights)
    assert look.same_bits(read["members"], look.published(third, "members"))


def test_a_damaged_release_leaves_the_services_where_they_are_and_the_next_fills_its_slot(nights, slots, look):
    first, second, third = three(nights)
    publish.publish(nights.workspace, first, slots)
    path = "titles/part-00000.parquet"
    second.storage.write(path, second.storage.read(path)[::-1])
    with pytest.raises(CorruptError, match=path):
        publish.publish(nights.workspace, second, slots)
    assert holds(look, nights, first)
    publish.publish(nights.workspace, third, slots)
    assert holds(look, nights, third)
    publish.rollback(nights.workspace, slots)
    assert holds(look, nights, first)


def test_a_rebuild_reaches_the_live_slot_though_the_release_of_the_other_is_damaged(nights, slots, look):
    first, second, _ = three(nights)
    for release in (first, second):
        publish.publish(nights.workspace, release, slots)
    path = first.storage.files("members")[0]
    first.storage.write(path, first.storage.read(path)[:-1] + b"?")
    for file in Path(nights.repository).glob("online.db*"):
        file.unlink()
    with pytest.raises(CorruptError, match=path):
        publish.promote(nights.workspace, "current", slots)
    assert holds(look, nights, second)
