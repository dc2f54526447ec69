"""What the doctor says of an online store: a real server, a cluster, a file that two workspaces share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.errors import ConfigError, StoreError
from stores.feast.ownership import check_online_store, claim_ownership
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.files.filesystem import Storage
from tests.stores.redis_servers import Server, cluster, cluster_config


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


def claimed(place: Path, config: PublishConfig) -> Storage:
    """A workspace that owns the rows of a store."""
    storage = Storage(str(place))
    claim_ownership(FeatureRepository(storage, config), ["1"])
    return storage


def test_a_store_that_answers_and_whose_it_is(server: Server, tmp_path: Path) -> None:
    config = server.config()
    ours = claimed(tmp_path / "ours", config)
    found = check_online_store(ours, config)
    assert (found.says, found.risk) == (f"redis at 127.0.0.1:{server.port} answers", "")
    with pytest.raises(ConfigError, match="belongs to workspace"):
        check_online_store(Storage(str(tmp_path / "theirs")), config)
    assert not (tmp_path / "theirs").exists()


def test_a_server_that_evicts_rows_is_a_risk(server: Server, tmp_path: Path) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "100mb")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    server.ask("FLUSHALL")
    try:
        found = check_online_store(Storage(str(tmp_path)), server.config())
        assert "allkeys-lru" in found.says
        assert "noeviction" in found.cure
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert check_online_store(Storage(str(tmp_path)), server.config()).risk == ""
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)


def test_a_cluster_answers(tmp_path: Path) -> None:
    with cluster(tmp_path / "nodes", 3) as nodes:
        found = check_online_store(Storage(str(tmp_path / "ws")), cluster_config(nodes))
    assert found.says.startswith("redis_cluster at 127.0.0.1:")
    assert found.risk == ""


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"connection_string": "redis.internal"}, "not host:port"),
        ({"connection_string": "redis://:pw-of-redis@h:6379"}, "not host:port"),
        ({"connection_string": "a:1,b:2"}, "names 2 servers"),
        ({"connection_string": "a:1,db=3", "redis_type": "redis_cluster"}, "no database but 0"),
        ({"connection_string": "a:1,password=${NO_SUCH_VARIABLE}"}, "NO_SUCH_VARIABLE is not set"),
        ({"redis_type": "redis_ring"}, "redis_type"),
    ],
)
def test_an_address_that_cannot_work_is_refused_by_name(block: dict[str, Any], expected: str, tmp_path: Path) -> None:
    config = PublishConfig(online_store={"type": "redis", **block})
    with pytest.raises(ConfigError, match=expected) as error:
        check_online_store(Storage(str(tmp_path)), config)
    assert "pw-of-redis" not in str(error.value)


def test_a_wrong_password_is_named_and_not_shown(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Authentication") as error:
        check_online_store(Storage(str(tmp_path)), server.config("password=guessed-wrongly"))
    assert "guessed-wrongly" not in str(error.value)
    assert "password" in error.value.fix
