"""Publishing, promoting, rolling back and recovering, looked at with plain Feast."""

import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stores.errors import GateError, MismatchError, NotFoundError, StoreError
from stores.feast import repository
from stores.feast.offline_store import EPOCH
from stores.publishing import journal, publish, publish_transaction, space_publisher
from stores.releases import release
from stores.releases.workspace import Workspace

EVERYONE = list(range(12))


def test_online_rows_equal_the_parquet_bit_for_bit(nights, config, look):
    release = nights.seal(dict.fromkeys(range(9), 1), dict.fromkeys(range(5), 1))
    report = publish.publish(nights.workspace, release, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(release, "members"))
    assert look.same_bits(look.online(nights, "title", EVERYONE), look.published(release, "titles"))
    assert report.metrics["online_members"] == 9
    served = look.rows(nights, "member", [0])
    assert (served["release_id"], served["space_id"]) == ([release.release_id], ["1"])
    assert nights.workspace.pointer()["release_id"] == release.release_id
    assert journal.read_plan(nights.workspace) is None
    assert [event["event"] for event in release.events()] == ["published"]


@pytest.mark.parametrize("entity", ["member", "title"])
def test_a_release_with_ids_of_another_type_is_given_up_and_blocks_nothing(
    local_nights, config, look, entity, monkeypatch
):
    nights = local_nights
    before = [nights.seal(dict.fromkeys(range(9), seed), {0: seed}) for seed in (1, 2)]
    for number in (0, 1):
        publish.publish(nights.workspace, before[number], config)
    table = getattr(nights, f"{entity}_table")
    monkeypatch.setattr(nights, f"{entity}_table", lambda *of: as_text(table(*of)))
    other = nights.seal(dict.fromkeys(range(9), 3), {0: 3})
    for _ in range(2):
        with pytest.raises(MismatchError, match="int64"):
            publish.publish(nights.workspace, other, config)
        assert journal.read_plan(nights.workspace) is None
        assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(before[1], "members"))
    publish.rollback(nights.workspace, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(before[0], "members"))


def as_text(table):
    """The table with its ids as text."""
    return table.set_column(0, table.column_names[0], table.column(0).cast(pa.string()))


def test_only_what_changed_is_written_and_departed_members_go(nights, config, look):
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1, 1: 1})
    second = nights.seal({**dict.fromkeys(range(8), 1), 3: 2, 10: 2}, {0: 1, 1: 1})
    publish.publish(nights.workspace, first, config)
    report = publish.publish(nights.workspace, second, config)
    assert report.metrics["online_members"] == 3  # one changed, one new, one gone
    assert report.metrics["online_titles"] == 0
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))
    served = look.rows(nights, "member", [0, 3])["release_id"]
    assert served == [first.release_id, second.release_id]


def test_rollback_restores_the_earlier_answers(nights, config, look):
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1, 1: 1})
    second = nights.seal({**dict.fromkeys(range(1, 9), 1), 3: 2, 10: 2}, {0: 2, 1: 1, 2: 1})
    publish.publish(nights.workspace, first, config)
    before = look.rows(nights, "member", EVERYONE)
    publish.publish(nights.workspace, second, config)
    report = publish.rollback(nights.workspace, config, why="a test")
    assert report.rows == 5  # two members and one title again, one of each removed
    assert look.rows(nights, "member", EVERYONE) == before
    assert look.same_bits(look.online(nights, "title", EVERYONE), look.published(first, "titles"))
    assert first.events()[-1]["why"] == "a test"
    with pytest.raises(NotFoundError, match="no earlier release"):
        publish.rollback(nights.workspace, config)


def test_promote_current_rebuilds_an_emptied_store(nights, config, look):
    release = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(nights.workspace, release, config)
    pointer = nights.workspace.pointer()
    for path in Path(nights.repository).glob("online.db*"):
        path.unlink()
    publish.promote(nights.workspace, "current", config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(release, "members"))
    assert nights.workspace.pointer() == pointer


def test_a_held_release_is_not_published(nights, config):
    with pytest.raises(GateError, match="too odd"):
        publish.publish(nights.workspace, nights.seal({0: 1}, {0: 1}, held=True), config)
    assert nights.workspace.pointer() is None


def test_a_new_space_has_views_of_its_own_and_the_old_ones_stay(nights, config, look):
    first = nights.seal(dict.fromkeys(range(6), 1), {0: 1})
    second = nights.seal(dict.fromkeys(range(6), 5), {0: 5}, space_id="2")
    publish.publish(nights.workspace, first, config)
    publish.publish(nights.workspace, second, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(first, "members"))
    new = look.online(nights, "member", EVERYONE, view="member_embedding_s2")
    assert look.same_bits(new, look.published(second, "members"))
    assert nights.workspace.pointer()["space_id"] == "2"
    services = {service.name for service in look.store(nights).list_feature_services()}
    assert services == {"embeddings_v1", "embeddings_v2"}
    publish.rollback(nights.workspace, config)
    assert nights.workspace.pointer()["space_id"] == "1"


def test_an_interrupted_first_night_of_a_space_registers_its_views_later(nights, config, look, monkeypatch):
    publish.publish(nights.workspace, nights.seal({0: 1}, {0: 1}), config)
    second = nights.seal({0: 2}, {0: 2}, space_id="2")
    with monkeypatch.context() as broken:
        break_at(broken, "register")
        with pytest.raises(ZeroDivisionError):
            publish.publish(nights.workspace, second, config)
    publish.recover(nights.workspace, config)
    new = look.online(nights, "member", EVERYONE, view="member_embedding_s2")
    assert look.same_bits(new, look.published(second, "members"))


def test_another_online_store_is_filled_by_the_next_publish(nights, config, look):
    first, second = (
        nights.seal(dict.fromkeys(range(9), 1), {0: 1}),
        nights.seal({**dict.fromkeys(range(9), 1), 3: 2}, {0: 1}),
    )
    publish.publish(nights.workspace, first, config)
    other = config.model_copy(update={"online_store": {"type": "sqlite", "path": "other.db"}})
    report = publish.publish(nights.workspace, second, other)
    assert (report.metrics["online_members"], report.metrics["history_members"]) == (9, 1)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))


STEPS = ["history", "prepare", "online", "live", "pointer", "event", "close"]


@pytest.mark.parametrize("step", STEPS)
def test_a_move_interrupted_anywhere_is_completed(nights, config, look, monkeypatch, step):
    first = nights.seal(dict.fromkeys(range(6), 1), {0: 1})
    second = nights.seal({**dict.fromkeys(range(1, 6), 1), 2: 2}, {0: 2})
    publish.publish(nights.workspace, first, config)
    with monkeypatch.context() as broken:
        break_at(broken, step)
        with pytest.raises(ZeroDivisionError):
            publish.publish(nights.workspace, second, config)
    assert journal.read_plan(nights.workspace).release_id == second.release_id
    publish.recover(nights.workspace, config)
    assert journal.read_plan(nights.workspace) is None
    assert nights.workspace.pointer()["release_id"] == second.release_id
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))
    told = pc.field("event_timestamp") > EPOCH  # Feast's Dask store is given a row there for each entity
    history = nights.workspace.storage.dataset("feast/history/member_embedding").to_table(filter=told)
    assert history.num_rows == 6 + 2  # the first night, then one change and one departure
    assert [event["event"] for event in second.events()] == ["published"]
    assert publish.recover(nights.workspace, config) is None


def break_at(patch, step):
    def stop(*_, **__):
        return 1 // 0

    places = {
        "history": (space_publisher, "write_history"),
        "prepare": (repository.FeatureRepository, "update"),
        "register": (repository.FeatureRepository, "_apply"),
        "online": (space_publisher.OnlineStoreWriter, "write"),
        "live": (space_publisher, "set_published_state"),
        "pointer": (publish_transaction, "move_pointer"),
        "event": (release.Release, "add_event"),
        "close": (publish_transaction, "close_plan"),
    }
    patch.setattr(*places[step], stop)


def test_effective_times_increase_when_the_clock_moves_back(nights, config):
    future = datetime.now(UTC) + timedelta(days=2)
    nights.workspace.storage.write(
        "current.json", b'{"release_id": "x", "space_id": "1", "promoted_at": "%s"}' % future.isoformat().encode()
    )
    publish.publish(nights.workspace, nights.seal({0: 1}, {0: 1}), config)
    assert datetime.fromisoformat(nights.workspace.pointer()["promoted_at"]) > future


def test_the_sqlite_store_lets_readers_go_on(nights, config):
    publish.publish(nights.workspace, nights.seal({0: 1}, {0: 1}), config)
    connection = sqlite3.connect(Path(nights.repository) / "online.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_store_that_cannot_be_reached_is_named_and_the_pointer_stays(nights, config, look):
    first, second = nights.seal({0: 1}, {0: 1}), nights.seal({0: 2}, {0: 1})
    publish.publish(nights.workspace, first, config)
    lost = config.model_copy(update={"online_store": {"type": "redis", "connection_string": "127.0.0.1:1"}})
    with pytest.raises(StoreError, match="the online store refused"):
        publish.publish(nights.workspace, second, lost)
    assert nights.workspace.pointer()["release_id"] == first.release_id
    publish.recover(nights.workspace, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(second, "members"))


def test_string_ids_and_a_moved_workspace(text_nights, config, look, tmp_path):
    release = text_nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(text_nights.workspace, release, config)
    shutil.move(text_nights.workspace.uri, tmp_path / "elsewhere")
    text_nights.workspace = Workspace.open(str(tmp_path / "elsewhere"))
    text_nights.repository = str(tmp_path / "elsewhere" / "feast")
    ids = [text_nights.ids(i) for i in EVERYONE]
    moved = text_nights.workspace.release(release.release_id)
    assert look.same_bits(look.online(text_nights, "member", ids), look.published(moved, "members"))


def test_importing_the_publisher_imports_no_feast():
    script = "import stores.publishing.publish, sys; sys.exit('feast' in sys.modules or 'duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_a_night_prints_nothing_and_keeps_the_warning_filters(local_nights):
    """Feast's modules set filters for the whole process when imported."""
    script = (
        "import sys, warnings; from stores.publishing import publish; from stores.releases import workspace;"
        "before = list(warnings.filters);"
        "w = workspace.Workspace.open(sys.argv[1]); publish.publish(w, w.releases()[0], publish.PublishConfig());"
        "sys.exit(warnings.filters != before)"
    )
    local_nights.seal({0: 1}, {0: 1})
    done = subprocess.run(
        [sys.executable, "-c", script, local_nights.workspace.uri],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
