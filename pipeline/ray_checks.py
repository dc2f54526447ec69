"""What Ray needs of a machine, looked at before it is started: cheap, bounded in time, and each trouble by its name.

A local Ray puts its sockets below a temporary folder, where the path of a socket has 107 bytes at most, and its object
store into `/dev/shm`, or below that folder where `/dev/shm` is too small. A cluster that is joined has to answer at its
address. `samespace doctor` shows the same findings.
"""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from stores.errors import ConfigError
from stores.settings import Settings

LOCAL, AUTO = "local", "auto"
CURRENT_CLUSTER = "ray_current_cluster"
"""The file in Ray's temporary folder into which `ray start` writes the address of its cluster."""
SHARED_MEMORY = Path("/dev/shm")
SLOW_STORAGE = "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"
GCS_PORT = "RAY_GCS_SERVER_PORT"
_SLOW_STORAGE_UP_TO = 10**10
"""Bytes up to which Ray takes a store outside of shared memory without being told to."""
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a path of an AF_UNIX socket; the kernel's field has one more, for the zero at its end."""
_SESSION = "session_0000-00-00_00-00-00_000000_"
_SOCKET = "sockets/plasma_store"
_LOG_BYTES = 64 << 20
"""Room that Ray's logs and sockets need at least."""


class RayConfig(Settings):
    """How to reach or start Ray."""

    address: str = ""
    """The cluster to join: "HOST:PORT", "ray://HOST:PORT", or "auto" for that of RAY_ADDRESS or of `ray start` here.
    Without one, where RAY_ADDRESS is not set either, and with "local", a Ray of the command's own is started."""
    num_cpus: int | None = Field(default=None, ge=1)
    """Processors of a Ray of the command's own; unset: all of the machine."""
    object_store_mb: int = Field(default=512, ge=80)
    """Shared memory in MiB of a Ray of the command's own."""
    temp_dir: str = ""
    """Folder for sockets and logs of a Ray of the command's own; "" is `ray` below RAY_TMPDIR, TMPDIR or /tmp."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds that a cluster to join may take to answer the first question."""
    start_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds that starting or joining Ray may take, all tries together."""
    start_attempts: int = Field(default=5, ge=1)
    """How often starting or joining Ray is tried: its processes have 15 seconds, too few on a machine under load."""
    node_wait_s: float = Field(default=900.0, ge=0)
    """Seconds to wait for a node that can hold a worker, where a joined cluster has none yet: its autoscaler may start
    one. 0: none will come."""

    @property
    def joins(self) -> str:
        """The address of the cluster to join; "" where a Ray of the command's own is started."""
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        return "" if address == LOCAL else address


def check_ray(config: RayConfig) -> None:
    """Raise ConfigError naming the first thing that would keep Ray from starting, or the cluster that does not answer.

    Takes milliseconds, and at most `connect_timeout_s` where a cluster is joined.
    """
    if config.joins:
        check_address(config)
    else:
        check_sockets(config)
        check_object_store(config)
        check_port()


def temp_folder(config: RayConfig) -> Path:
    """Where a local Ray puts its sessions."""
    if config.temp_dir:
        return Path(config.temp_dir).expanduser().absolute()
    variable = os.environ.get("RAY_TMPDIR") or (os.environ.get("TMPDIR") if sys.platform == "linux" else "")
    return Path(variable or "/tmp", "ray")


def check_sockets(config: RayConfig) -> str:
    """Bind a socket whose path is as long as Ray's will be; the folder. Raises ConfigError."""
    folder = temp_folder(config)
    where = f"the temporary folder of Ray, {folder}"
    session = f"{_SESSION}{os.getpid()}"
    length = len(os.fsencode(folder / session / _SOCKET))
    if length > _LONGEST_SOCKET:
        raise ConfigError(
            f"Ray's sockets would have paths of {length} bytes",
            where=where,
            expected=f"at most {_LONGEST_SOCKET}: a folder that is {length - _LONGEST_SOCKET} bytes shorter",
            fix="RAY_TMPDIR=/tmp, or ray.temp_dir=/tmp/ray",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="s", dir=folder) as trial, _unix_socket() as bound:
            bound.bind(str(Path(trial, "s")))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        cure = "another folder (RAY_TMPDIR or ray.temp_dir), or rights on this one"
        raise ConfigError(
            f"Ray cannot put its sockets there: {error}", where=where, expected="a folder to write into", fix=cure
        ) from error
    if free < _LOG_BYTES:
        raise ConfigError(
            f"only {free / 1e6:.0f} MB are free for Ray's logs and sockets",
            where=where,
            expected=f"{_LOG_BYTES / 1e6:.0f} MB",
            fix="free disk space, or another folder (RAY_TMPDIR or ray.temp_dir)",
        )
    return str(folder)


def check_object_store(config: RayConfig) -> Path:
    """The folder that Ray will map its object store from. Raises ConfigError where no folder has room for it."""
    size, folder = config.object_store_mb << 20, temp_folder(config)
    where = f"ray.object_store_mb = {config.object_store_mb}"
    lower = "a lower ray.object_store_mb (80 at least)"
    if size > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ConfigError(f"the machine has {memory >> 20} MiB of memory", where=where, fix=lower)
    shared = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    if shared >= size:
        return SHARED_MEMORY
    told = f"{SHARED_MEMORY} has only {shared >> 20} MiB free"
    cure = f"free {SHARED_MEMORY} or make it larger (docker run --shm-size), or {lower}"
    if size > _SLOW_STORAGE_UP_TO and not os.environ.get(SLOW_STORAGE):
        raise ConfigError(told, where=where, expected=f"room for the object store, or {SLOW_STORAGE}=1", fix=cure)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if (free := shutil.disk_usage(there).free) < size:
        raise ConfigError(f"{told}, and {folder} {free >> 20} MiB", where=where, expected="room in either", fix=cure)
    return folder


def check_port() -> None:
    """Raise ConfigError where the port that the environment fixes for Ray's server is taken; by default it is free."""
    fixed = os.environ.get(GCS_PORT, "")
    if fixed in ("", "0"):
        return
    try:
        with socket.socket() as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("", int(fixed)))
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Ray's server cannot listen: {error}", where=f"{GCS_PORT}={fixed}", fix=f"unset {GCS_PORT}, or a free port"
        ) from error


def check_address(config: RayConfig) -> str:
    """Ask the cluster to join whether it is there; its address. Raises ConfigError."""
    address, source = _resolved(config)
    where = f"the Ray cluster at {address} ({source})"
    host, port = _host_and_port(address, source)
    if trouble := _silent(host, port, config.connect_timeout_s):
        raise ConfigError(
            f"no Ray answers: {trouble}",
            where=where,
            expected=f"an answer within {config.connect_timeout_s:g} s (ray.connect_timeout_s)",
            fix="start the cluster, or correct the address; unset it for a Ray of the command's own",
        )
    return address


def _resolved(config: RayConfig) -> tuple[str, str]:
    """The address of the cluster to join, and where it comes from."""
    variable, current = os.environ.get("RAY_ADDRESS", ""), temp_folder(config) / CURRENT_CLUSTER
    if config.address not in ("", AUTO):
        return config.address, "ray.address"
    if variable not in ("", AUTO):
        return variable, "RAY_ADDRESS"
    try:
        return current.read_text(encoding="utf-8").strip(), str(current)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "there is no Ray cluster to join on this machine",
            where='ray.address = "auto"',
            expected=f"RAY_ADDRESS, or {current}, which `ray start` writes",
            fix="ray start --head, or ray.address=HOST:PORT; unset it for a Ray of the command's own",
        ) from error


def _host_and_port(address: str, source: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme != "ray" or not host or not port:
        raise ConfigError(
            f"not an address of a Ray cluster: {address!r}",
            where=source,
            expected="HOST:PORT, ray://HOST:PORT or auto",
            fix="set ray.address; unset it for a Ray of the command's own",
        )
    return host, port


def _silent(host: str, port: int, timeout_s: float) -> str:
    """Why nothing that speaks gRPC, as Ray's server does, answers in time; "" where something does."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # only Ray itself has the certificates
        try:
            socket.create_connection((host, port), timeout_s).close()
        except OSError as error:
            return str(error)
        return ""
    import grpc  # type: ignore[import-untyped]

    name = f"[{host}]" if ":" in host else host
    with grpc.insecure_channel(f"{name}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                return str(error.details()).rpartition("last error: ")[2]
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer in {timeout_s:g} s"
    return ""  # also where the server wants a token, or has no such service: Ray's client has the word then


def _unix_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
