"""One writer at a time: a lease on the workspace with a fencing token.

The lease is a small file that is replaced only if it is still the one that was read. A lease whose
holder is a dead process of this host is taken over at once; any other after it expires. Every
take-over raises the token, and a writer checks its token before each shard. Containers may share a
host's name and not see each other's processes, so a host is told by its kernel's boot and by the
space of its process ids too.

On the host of the holder a lease expires by the kernel's time since boot, so that a clock that is set forward or back
takes the workspace from no living command; other hosts compare `expires_at` with their own clock.

A damaged lease file says nothing of who holds the workspace, so that every command refuses it by name; the command that
holds the workspace writes it anew at its next beat.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel

from stores.errors import BusyError, CorruptError, StoreError
from stores.files.checksummed_json import MAX_BYTES, object_of, validated
from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import Storage

LEASE_FILE = "lease.json"
TIME_TO_LIVE = timedelta(seconds=120)
CURE = f"make sure that no samespace command writes to this workspace, on any machine, then delete {LEASE_FILE}"


class _Lease(BaseModel):
    """What a lease file must say; it may say more."""

    token: int
    purpose: str
    host: str
    pid: int
    started: str
    expires_at: AwareDatetime
    ends_s: float | None = None


@contextmanager
def lease(storage: Storage, purpose: str) -> Iterator[int]:
    """Hold the workspace for writing; yields the fencing token. Raises BusyError if another holds it."""
    held = _acquire(storage, purpose)
    stop = threading.Event()
    keeper = _LeaseRenewal(storage, held, stop)
    keeper.start()
    try:
        yield int(held["token"])
    finally:
        stop.set()
        keeper.join()
        with suppress(StoreError, CorruptError):  # a lease that cannot be given back runs out by itself
            _rewrite(storage, {**held, "expires_at": _now().isoformat(), "released": True})


def check_token(storage: Storage, token: int) -> None:
    """Raise BusyError unless `token` is still the newest one, CorruptError where nobody can say."""
    found, raw = _read(storage)
    if raw is None:
        raise BusyError(
            f"{LEASE_FILE} was removed while this command held the workspace",
            where=storage.uri,
            fix="run the command again: it goes on where it stopped",
        )
    if found.get("token") != token:
        raise BusyError(
            f"this night was taken over: its token is {token}, the workspace's is {found.get('token')}",
            where=storage.uri,
            fix="leave the workspace to the newer night",
        )


def current_lease(storage: Storage) -> dict[str, Any] | None:
    """The lease in force, or None where the workspace is free."""
    found, _ = _read(storage)
    return found if found and not _is_free(found) else None


def _acquire(storage: Storage, purpose: str) -> dict[str, Any]:
    found, raw = _read(storage)
    if found and not _is_free(found):
        raise BusyError(
            f"{found['purpose']} holds the workspace (process {found['pid']} on {found['host']})",
            where=storage.uri,
            fix=_wait(found),
        )
    pid = os.getpid()
    mine = {"token": _next_token(storage, found), "purpose": purpose, **_host(), "pid": pid}
    mine |= {"started": _started(pid), **_ends()}
    mine |= {"nonce": secrets.token_hex(8)}  # no two holders ever write the same bytes
    if not replace_if(storage, LEASE_FILE, _dump(mine), raw):
        raise BusyError("another command took the workspace in this moment", where=storage.uri, fix="try again")
    return mine


def _wait(found: dict[str, Any]) -> str:
    """The way out for a command that meets a lease in force."""
    told = f"wait for it; the lease ends at {found['expires_at']} unless it is renewed"
    if datetime.fromisoformat(found["expires_at"]) - _now() <= 2 * TIME_TO_LIVE:
        return told
    return f"{told}: a clock was moved, here or on {found['host']}; {CURE}"


def _next_token(storage: Storage, found: dict[str, Any]) -> int:
    """A token above every earlier one: where somebody removed the lease of a workspace in use, the time in ms."""
    if found:
        return int(found["token"]) + 1
    return time.time_ns() // 1_000_000 if storage.exists("releases") else 1


def _ends() -> dict[str, Any]:
    """When a lease that is taken or renewed now expires: by the clock, and by the time since this host booted."""
    until = {"expires_at": (_now() + TIME_TO_LIVE).isoformat()}
    return until if (up := _up_s()) is None else {**until, "ends_s": up + TIME_TO_LIVE.total_seconds()}


def _up_s() -> float | None:
    """Seconds since boot, sleep included; None where the kernel does not say."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


class _LeaseRenewal(threading.Thread):
    """Renews the lease in the background until told to stop or until it was lost."""

    def __init__(self, storage: Storage, held: dict[str, Any], stop: threading.Event) -> None:
        super().__init__(daemon=True, name="lease")
        self.storage, self.held, self.stopped = storage, held, stop

    def run(self) -> None:
        while not self.stopped.wait(TIME_TO_LIVE.total_seconds() / 4):
            with suppress(StoreError, CorruptError):  # asked again at the next beat: the lease outlives three that fail
                if not _rewrite(self.storage, {**self.held, **_ends()}):
                    return  # taken over: the next write of a shard says so


def _read(storage: Storage) -> tuple[dict[str, Any], bytes | None]:
    """The lease and its bytes; nothing where there is no file. Raises CorruptError for a damaged one."""
    if not storage.exists(LEASE_FILE):
        return {}, None
    raw = storage.read(LEASE_FILE, MAX_BYTES, CURE)
    found = object_of(raw, LEASE_FILE, storage.uri, CURE)
    validated(found, _Lease, LEASE_FILE, storage.uri, CURE)
    return found, raw


def _rewrite(storage: Storage, mine: dict[str, Any]) -> bool:
    """Write one's own lease anew, over a damaged one too; False where it is another's by now, or was removed."""
    try:
        found, raw = _read(storage)
    except CorruptError:
        found, raw = mine, storage.read(LEASE_FILE)
    return found.get("nonce") == mine["nonce"] and replace_if(storage, LEASE_FILE, _dump(mine), raw)


def _is_free(found: dict[str, Any]) -> bool:
    if found.get("released"):
        return True
    here = all(found.get(name) == value for name, value in _host().items())
    if here and _started(found["pid"]) != found["started"]:
        return True
    up = _up_s() if here and "boot" in found else None
    if up is not None and found.get("ends_s") is not None:
        return bool(found["ends_s"] <= up)
    return datetime.fromisoformat(found["expires_at"]) <= _now()


def _host() -> dict[str, str]:
    """Where process ids mean what they mean here: the host's name and, on Linux, its boot and the space of its ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return {"host": socket.gethostname()}
    return {"host": socket.gethostname(), "boot": f"{boot} {space}"}


def _started(pid: int) -> str:
    """A name for the life of a process: the kernel's start time, so that a reused id is told apart; "" if dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "alive"
    return "alive"


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _now() -> datetime:
    return datetime.now(UTC)
