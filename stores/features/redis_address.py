"""The address of a Redis online store: Feast's `connection_string`, checked, with a deadline for every wait.

Without one redis-py waits for ever for a server that accepts connections and does not answer.
"""

from typing import Any

from stores.errors import ConfigError

CONNECT_S, ANSWER_S = 10, 60
"""Seconds to open a connection and to wait for a reply, where `connection_string` names none."""
DEADLINES = {"socket_connect_timeout": CONNECT_S, "socket_timeout": ANSWER_S}
TYPES = ("redis", "redis_cluster", "redis_sentinel")
WHERE = "[publish.online_store] connection_string"


def with_deadlines(connection_string: str, deadlines: dict[str, float] | None = None) -> str:
    """Return the connection string with the timeouts that it lacks."""
    given = {option.partition("=")[0] for option in connection_string.split(",") if "=" in option}
    lacking = {name: value for name, value in (deadlines or DEADLINES).items() if name not in given}
    return ",".join([connection_string, *(f"{name}={value}" for name, value in lacking.items())])


def nodes(connection_string: str) -> list[str]:
    """Return the servers of a connection string as `host:port`, which holds no secret.

    Raises ConfigError where there is none, or one without a port: Feast would fail with a KeyError.
    """
    found = [part for part in connection_string.split(",") if "=" not in part]
    for server in found or [""]:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit() or "@" in server or "/" in server:
            raise ConfigError(
                "a server of the connection string is not host:port",
                where=WHERE,
                expected="host:port,password=${NAME},ssl=true (no redis:// URL: Feast does not read one)",
                fix="write one host:port for each server, then options as name=value, all separated by commas",
            )
    return found


def check_redis(block: Any) -> None:
    """Raise ConfigError where Feast's block of a Redis store, as Feast parsed it, cannot work."""
    servers = nodes(block.connection_string)
    kind = str(getattr(block.redis_type, "value", block.redis_type))
    if kind not in TYPES:
        raise ConfigError(f"samespace cannot write redis_type {kind}", where=WHERE, expected=" or ".join(TYPES))
    options = dict(part.partition("=")[::2] for part in block.connection_string.split(",") if "=" in part)
    if kind == "redis_cluster" and options.get("db", "0") != "0":
        raise ConfigError("a Redis Cluster has no database but 0", where=WHERE, fix="remove db= from the string")
    if kind == "redis" and len(servers) > 1:
        raise ConfigError(
            f"connection_string names {len(servers)} servers, of which Feast would use the first alone",
            where=WHERE,
            fix='name one server, or set redis_type = "redis_cluster" or "redis_sentinel"',
        )
