"""Redis Cluster and Sentinel for real: every way of writing, read back through plain Feast."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.sentinel import Sentinel

from stores.errors import StoreError
from stores.feast import redis_writer
from stores.feast.repository import PublishConfig
from stores.publishing import publish
from stores.publishing.erasure import erase
from tests.stores.redis_servers import SECRET, Server, cluster, cluster_config, free_port, until

EVERYONE = list(range(60))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with cluster(tmp_path_factory.mktemp("cluster"), 3) as servers:
        yield servers


@pytest.fixture
def nodes(three: list[Server]) -> list[Server]:
    for server in three:
        server.ask("FLUSHALL")
    return three


def test_publish_to_one_node_cluster(local_nights: Any, look: Any, tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as servers:
        config = cluster_config(servers)
        release = local_nights.seal(dict.fromkeys(range(30), 1), {0: 1})
        publish.publish(local_nights.workspace, release, config)
        served = look.online(local_nights, "member", EVERYONE)
        assert look.same_bits(served, look.published(release, "members"))


def test_publish_rollback_and_erase_reach_every_node_of_a_cluster(
    text_nights: Any, look: Any, nodes: list[Server]
) -> None:
    """Departures, newer effective times of a rollback, erasure, a rebuild after the loss of all rows; hash tags too."""
    made, config = text_nights, cluster_config(nodes[:1])
    made.ids = lambda i: f"{{{i % 4}}}member/{i}"  # braces are hash tags: they choose the slot
    first = made.seal(dict.fromkeys(range(30), 1), {0: 1, 1: 1})
    second = made.seal({**dict.fromkeys(range(20), 1), 3: 2, 40: 2}, {0: 2, 2: 2})
    everyone = [made.ids(i) for i in EVERYONE]

    def served_is(release: Any) -> None:
        for entity in ("member", "title"):
            served = look.online(made, entity, everyone)
            assert look.same_bits(served, look.published(release, f"{entity}s")), entity

    publish.publish(made.workspace, first, config)
    served_is(first)
    assert all(server.ask("DBSIZE") > 0 for server in nodes)
    publish.publish(made.workspace, second, config)
    served_is(second)
    publish.rollback(made.workspace, config)
    served_is(first)
    erase(made.workspace, made.ids(3), config)
    assert made.ids(3) not in look.online(made, "member", everyone)
    for server in nodes:
        with server.client() as client:
            assert not any(made.ids(3).encode() in key for key in client.scan_iter())
        server.ask("FLUSHALL")
    publish.promote(made.workspace, "current", config)
    served_is(made.workspace.current())


def test_slots_that_move_while_rows_are_written_lose_none(
    local_nights: Any, look: Any, nodes: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MOVED for slots that have a new owner, ASK for one that is on its way there."""
    config = cluster_config(nodes)
    first = local_nights.seal(dict.fromkeys(range(60), 1), {0: 1})
    second = local_nights.seal(dict.fromkeys(range(60), 2), {0: 2})
    publish.publish(local_nights.workspace, first, config)
    monkeypatch.setattr(redis_writer, "COMMANDS_PER_BATCH", 5)
    real, seen = redis_writer._ClusterPieces._read, []
    taken: list[Any] = []

    def moving(self: Any, sent: Any) -> None:
        if not seen:
            taken.extend(move_a_third(nodes[0], nodes[1], nodes))
        seen.append(len(sent))
        real(self, sent)

    monkeypatch.setattr(redis_writer._ClusterPieces, "_read", moving)
    publish.publish(local_nights.workspace, second, config)
    finish_moving(taken, nodes)
    assert look.same_bits(look.online(local_nights, "member", EVERYONE), look.published(second, "members"))


def move_a_third(source: Server, target: Server, everyone: list[Server]) -> list[tuple[int, Server, Server]]:
    """Give every slot of `source` that holds keys away: half of them completely, the others are left on their way."""
    slots = used(source)
    assert len(slots) > 2
    for number, slot in enumerate(slots):
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
        migrate(source, target, slot)
        if number % 2:
            give(target, slot, everyone)
    return [(slot, source, target) for slot in slots]


def used(server: Server) -> list[int]:
    from redis.crc import key_slot

    with server.client() as client:
        return sorted({key_slot(key) for key in client.scan_iter()})


def migrate(source: Server, target: Server, slot: int) -> None:
    keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    if keys:
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", SECRET, "KEYS", *keys)


def give(target: Server, slot: int, everyone: list[Server]) -> None:
    for server in (target, *everyone):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))


def finish_moving(taken: list[tuple[int, Server, Server]], everyone: list[Server]) -> None:
    for slot, source, target in taken:
        migrate(source, target, slot)
        give(target, slot, everyone)


def test_a_node_that_dies_is_a_named_error_and_the_next_command_completes_it(
    local_nights: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_writer, "RETRY_PAUSE_S", 0.0)
    with cluster(tmp_path, 3) as servers:
        config = cluster_config(servers)
        first, second = (local_nights.seal(dict.fromkeys(range(60), seed), {0: seed}) for seed in (1, 2))
        publish.publish(local_nights.workspace, first, config)
        real, batches = redis_writer.RedisWriter.write, []

        def die(self: Any, *args: Any) -> None:
            real(self, *args)
            batches.append(1)
            if len(batches) == 2:
                servers[1].stop()

        with monkeypatch.context() as patch:
            patch.setattr(redis_writer.RedisWriter, "write", die)
            with pytest.raises(StoreError, match="the online store refused") as error:
                publish.publish(local_nights.workspace, second, config)
        assert "type redis" in str(error.value)
        assert SECRET not in str(error.value)
        assert local_nights.workspace.pointer()["release_id"] == first.release_id
        servers[1].start()
        until(lambda: all(b"cluster_state:ok" in one.ask("CLUSTER", "INFO") for one in servers), "all are whole again")
        publish.recover(local_nights.workspace, config)
        assert local_nights.workspace.pointer()["release_id"] == second.release_id
        assert look.same_bits(look.online(local_nights, "member", EVERYONE), look.published(second, "members"))


def test_publish_through_sentinel_finds_the_new_master(
    local_nights: Any, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = Server(tmp_path)
    replica = Server(tmp_path, "--replicaof", "127.0.0.1", str(master.port))
    port = free_port()
    settings = tmp_path / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        f"sentinel auth-pass mymaster {SECRET}\nsentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 2000\n"
    )
    sentinel = subprocess.Popen([master.program, str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        block = {"type": "redis", "redis_type": "redis_sentinel"}
        block["connection_string"] = f"127.0.0.1:{port},password={SECRET}"
        config = PublishConfig(online_store=block, batch_rows=7, registry_ttl_s=1)
        first, second = (local_nights.seal(dict.fromkeys(range(30), seed), {0: seed}) for seed in (1, 2))
        until(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up", "the replica follows")
        until(lambda: knows_replica(port), "the sentinel knows the replica")
        publish.publish(local_nights.workspace, first, config)
        until(lambda: replica.ask("DBSIZE") == master.ask("DBSIZE"), "the replica has every row")
        master.stop()
        until(lambda: Sentinel([("127.0.0.1", port)]).discover_master("mymaster")[1] == replica.port, "a new master")
        publish.publish(local_nights.workspace, second, config)
        assert look.same_bits(look.online(local_nights, "member", EVERYONE), look.published(second, "members"))
    finally:
        sentinel.kill()
        sentinel.wait()
        replica.stop()
        master.stop()


def knows_replica(port: int) -> bool:
    from redis import Redis

    with Redis(port=port) as client:
        return bool(client.execute_command("SENTINEL", "REPLICAS", "mymaster"))


def master_of(port: int) -> int:
    from redis import Redis

    with Redis(port=port) as client:
        return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])
