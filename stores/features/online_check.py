"""A look at the online store for the doctor: does it answer, whose rows does it hold, may it lose them by itself?"""

from dataclasses import dataclass
from typing import Any

from stores.features.ownership import check
from stores.features.redis_address import nodes, with_deadlines
from stores.features.repository import FeatureRepository, PublishConfig, online_store_of
from stores.features.store_errors import store_errors
from stores.storage import Storage

LIMITS: dict[str, float] = {"socket_connect_timeout": 2, "socket_timeout": 2}


@dataclass(frozen=True)
class OnlineCheck:
    """What was found: `says`, and `risk` with its cure, both empty where there is none."""

    says: str
    risk: str = ""
    cure: str = ""


def look_at_online_store(storage: Storage, config: PublishConfig) -> OnlineCheck:
    """Ask the online store of a workspace.

    Raises StoreError where it does not answer, ConfigError where its settings cannot work or its rows are another
    workspace's.
    """
    block = config.online_store
    kind = str(block.get("type", "sqlite"))
    repository = FeatureRepository(storage, config)
    if repository.has_own_store:
        return OnlineCheck(kind)
    if kind != "redis":
        check(repository)
        return OnlineCheck(f"{kind} answers")
    address = str(block.get("connection_string", "localhost:6379"))
    impatient = config.model_copy(
        update={"online_store": block | {"connection_string": with_deadlines(address, LIMITS)}}
    )
    repository = FeatureRepository(storage, impatient)
    check(repository)
    with store_errors(config):
        policies = _policies(repository)
    says = f"{block.get('redis_type', 'redis')} at {', '.join(nodes(address))} answers"
    evicts = sorted(policies - {"noeviction"})
    if evicts:
        return OnlineCheck(f"{says}, but may drop rows: {', '.join(evicts)}", "evicts", "maxmemory-policy noeviction")
    return OnlineCheck(says)


def _policies(repository: FeatureRepository) -> set[str]:
    """What the servers do when their memory is full; servers without a limit are left out."""
    config = repository.store_config()
    client = online_store_of(config)._get_client(config.online_store)
    try:
        found = client.info("memory")
    finally:
        client.close()
    servers: list[dict[str, Any]] = (
        list(found.values()) if all(isinstance(one, dict) for one in found.values()) else [found]
    )
    return {str(one.get("maxmemory_policy", "noeviction")) for one in servers if one.get("maxmemory")}
