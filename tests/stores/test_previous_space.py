"""Older spaces that follow a release: published, rolled back, rebuilt, kept and erased together with it."""

import pyarrow as pa
import pytest

from stores.errors import MismatchError
from stores.publishing import publish, publish_transaction
from stores.publishing.erasure import erase
from stores.publishing.retention import collect_garbage
from stores.releases.manifest import PreviousSpace
from stores.releases.previous_space import in_space

EVERYONE = list(range(9))


class World:
    """A release of space 1, then two of space 2 that space 1 follows, all published."""

    def __init__(self, nights, config):
        self.nights, self.config = nights, config
        semantic = pa.table({"title_id": [0], "semantic_id": [[1, 2]], "release_id": ["x"], "encoded_at": [None]})
        semantic = semantic.set_column(3, "encoded_at", pa.nulls(1, pa.timestamp("us", "UTC")))
        more = {"semantic_ids/part-00000.parquet": semantic.cast(_semantic_schema())}
        self.first = nights.seal(dict.fromkeys(range(6), 1), {0: 1, 1: 1}, more=more)
        publish.publish(nights.workspace, self.first, config)
        self.second, self.third = (self.follow(dict.fromkeys(range(n, 8), n)) for n in (1, 2))

    def follow(self, members):
        first = self.first.release_id
        old = {"1": PreviousSpace(release_id="own", reference_release=first, last_release=first)}
        release = self.nights.seal(members, {0: 2, 1: 2}, space_id="2", old=old)
        publish.publish(self.nights.workspace, release, self.config)
        return release

    def serves(self, look, release, own=True):
        """Whether both spaces serve a release: what it holds, and what it was mapped onto."""
        old = look.same_bits(self.old(look), look.published(release, "spaces/1/members"))
        new = look.online(self.nights, "member", EVERYONE, "member_embedding_s2")
        return old and (not own or look.same_bits(new, look.published(release, "members")))

    def old(self, look):
        return look.online(self.nights, "member", EVERYONE)


def _semantic_schema():
    kinds = [("title_id", pa.int64()), ("semantic_id", pa.list_(pa.int32()))]
    return pa.schema([*kinds, ("release_id", pa.string()), ("encoded_at", pa.timestamp("us", "UTC"))])


def test_an_old_space_follows_goes_back_and_keeps_its_other_features(nights, config, look):
    world = World(nights, config)
    assert world.serves(look, world.third)
    assert set(look.rows(nights, "member", [3])["space_id"]) == {"1"}
    publish.rollback(nights.workspace, config)
    assert world.serves(look, world.second)
    publish.rollback(nights.workspace, config)
    assert look.same_bits(world.old(look), look.published(world.first, "members"))
    served = look.store(nights).get_online_features(["title_semantic_id:semantic_id"], [{"title_id": 0}]).to_dict()
    assert served["semantic_id"] == [[1, 2]]
    publish.promote(nights.workspace, world.third.release_id, config)
    assert world.serves(look, world.third)


def test_what_a_release_carried_in_its_own_space_says_nothing_of_an_older_one(local_nights, config, look):
    """Each release carries members forward, the last one of the older space too."""
    nights, members = local_nights, dict.fromkeys(range(9), 1)
    first = nights.seal(members, {0: 1, 1: 1})
    last = nights.seal(members | {2: 5}, {0: 1, 1: 1}, carried=first)
    old = PreviousSpace(release_id="own", reference_release=first.release_id, last_release=last.release_id)
    opened = nights.seal(members, {0: 2}, space_id="2", old={"1": old})
    tonight = nights.seal(members | {4: 5}, {0: 2}, space_id="2", old={"1": old}, carried=opened)
    for release in (first, last, opened, tonight):
        publish.publish(nights.workspace, release, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(tonight, "spaces/1/members"))
    new = look.online(nights, "member", EVERYONE, "member_embedding_s2")
    assert look.same_bits(new, look.published(tonight, "members"))


def test_what_was_served_on_the_day_is_in_the_history_of_both_spaces(local_nights, config, look):
    import pandas as pd

    world = World(local_nights, config)
    moments = [event["effective_at"] for one in (world.first, world.second, world.third) for event in one.events()]
    asked = pd.DataFrame({"member_id": [5] * 3, "event_timestamp": pd.to_datetime(moments, format="ISO8601")})
    found = look.store(local_nights).get_historical_features(asked, ["member_embedding:embedding"]).to_df()
    found = [bytes(row.astype("<f4")) for row in found.sort_values("event_timestamp")["embedding"]]
    places = [(world.first, "members"), (world.second, "spaces/1/members"), (world.third, "spaces/1/members")]
    assert found == [look.published(release, folder)[5].tobytes() for release, folder in places]


@pytest.mark.parametrize("step", ["close_plan", "move_pointer"])
def test_an_interrupted_move_is_completed_in_both_spaces(local_nights, config, look, monkeypatch, step):
    world = World(local_nights, config)
    with monkeypatch.context() as broken:
        broken.setattr(publish_transaction, step, lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            world.follow(dict.fromkeys(range(4, 9), 7))
    publish.recover(local_nights.workspace, config)
    assert world.serves(look, local_nights.made[-1])


def test_a_frozen_space_stays_and_comes_back_with_the_release(local_nights, config, look):
    world, first = World(local_nights, config), local_nights.made[0].release_id
    frozen = PreviousSpace(
        release_id=world.third.release_id, reference_release=first, last_release=first, reasons=["late"]
    )
    last = local_nights.seal({0: 9}, {0: 9}, space_id="2", old={"1": frozen})
    publish.publish(local_nights.workspace, last, config)
    assert world.serves(look, world.third, own=False)
    publish.promote(local_nights.workspace, world.second.release_id, config)
    publish.promote(local_nights.workspace, last.release_id, config)
    assert world.serves(look, world.third, own=False)
    with pytest.raises(MismatchError, match="not mapped onto space 1"):
        in_space(last, "1")
    assert collect_garbage(local_nights.workspace, keep=1) == [world.second.release_id]


@pytest.mark.parametrize("slots", [1, 2])
def test_promote_current_fills_every_space_and_slot_again(local_nights, config, look, slots):
    from pathlib import Path

    world = World(local_nights, config.model_copy(update={"slots": slots}))
    views = [f"member_embedding{s}{g}" for s in ("", "_s2") for g in ("", "_green")[:slots]]
    before = [look.rows(local_nights, "member", EVERYONE, view)["embedding"] for view in views]
    for path in Path(local_nights.repository).glob("online.db*"):
        path.unlink()
    publish.promote(local_nights.workspace, "current", world.config)
    assert [look.rows(local_nights, "member", EVERYONE, view)["embedding"] for view in views] == before


def test_erasing_reaches_the_old_space(local_nights, config, look):
    world = World(local_nights, config)
    erase(local_nights.workspace, "3", config)
    assert 3 not in world.old(look)
    assert 3 not in look.published(world.third, "spaces/1/members")
    assert local_nights.workspace.release(world.third.release_id).verify() == []
    publish.rollback(local_nights.workspace, config)
    assert 3 not in world.old(look)
