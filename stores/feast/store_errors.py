"""Errors of online stores: every exception of a client library becomes a StoreError with the store and the cure."""

from collections.abc import Iterator
from contextlib import contextmanager

from stores.errors import SamespaceError, StoreError
from stores.feast.config import PublishConfig

RUN_AGAIN = "then run the command again: it completes what was interrupted"
CURE_BY_ERROR = {
    "OutOfMemoryError": "the server is full: raise its maxmemory or free memory (policy noeviction)",
    "ReadOnlyError": 'the address names a replica: name the master, or set redis_type = "redis_sentinel"',
    "AuthenticationError": "check user and password: they belong in the environment, as ${NAME} in the block",
    "NoPermissionError": "the user of the server lacks rights: HSET, HDEL, HMGET, HSETNX on all keys of the project",
    "BusyLoadingError": "the server is loading its data: wait until it answers PING",
    "TimeoutError": "the server does not answer: look at its load, or raise socket_timeout in connection_string",
    "ClusterDownError": "the cluster does not serve all slots: look at CLUSTER INFO, wait for its failover",
    "RedisClusterException": "the cluster does not serve all slots, or the nodes named are no cluster: CLUSTER INFO",
    "MasterNotFoundError": "the sentinels know no such master: check sentinel_master and their addresses",
    "SlaveNotFoundError": "the sentinels know no such server: check sentinel_master and their addresses",
    "ConnectionError": "start the server, or correct host and port in connection_string",
    "OperationalError": "check free space and rights of the file, and that no other program holds it locked",
}
"""The cure by the name of an exception or of one of its base classes, the nearest first."""


@contextmanager
def store_errors(config: PublishConfig) -> Iterator[None]:
    """Raise StoreError, which names the type of the online store, for whatever a store raises inside."""
    try:
        yield
    except SamespaceError:
        raise
    except Exception as error:
        raise StoreError(
            f"the online store refused: {type(error).__name__}: {error}",
            where=f"[publish] online_store, type {config.online_store.get('type', 'sqlite')}",
            fix=f"{cure_for(error)}; {RUN_AGAIN}",
        ) from error


def cure_for(error: Exception) -> str:
    """Return what helps against an exception of a store's client."""
    text = str(error)
    if text.startswith(("NOAUTH", "WRONGPASS", "invalid username-password")):
        return CURE_BY_ERROR["AuthenticationError"]
    if text.startswith("MISCONF"):
        return "the server cannot save its data and takes no writes: look at its disk and its log"
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((CURE_BY_ERROR[name] for name in names if name in CURE_BY_ERROR), "make the store reachable")
