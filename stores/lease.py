"""One writer at a time: a lease on the workspace with a fencing token.

The lease is a small file that is replaced only if it is still the one that was read. A lease whose
holder is a dead process of this host is taken over at once; any other after it expires. Every
take-over raises the token, and a writer checks its token before each shard. Containers may share a
host's name and not see each other's processes, so a host is told by its kernel's boot and by the
space of its process ids too.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stores.conditional import replace_if
from stores.errors import BusyError, StoreError
from stores.storage import Storage

PATH = "lease.json"
TIME_TO_LIVE = timedelta(seconds=120)


@contextmanager
def lease(storage: Storage, purpose: str) -> Iterator[int]:
    """Hold the workspace for writing; yields the fencing token. Raises BusyError if another holds it."""
    held = _acquire(storage, purpose)
    stop = threading.Event()
    keeper = _Keeper(storage, held, stop)
    keeper.start()
    try:
        yield int(held["token"])
    finally:
        stop.set()
        keeper.join()
        with suppress(StoreError):  # a lease that cannot be given back runs out by itself
            _rewrite(storage, {**held, "expires_at": _now().isoformat(), "released": True})


def check_token(storage: Storage, token: int) -> None:
    """Raise BusyError unless `token` is still the newest one."""
    found, _ = _read(storage)
    if found.get("token") != token:
        raise BusyError(
            f"this night was taken over: its token is {token}, the workspace's is {found.get('token')}",
            where=storage.uri,
            fix="leave the workspace to the newer night",
        )


def holder(storage: Storage) -> dict[str, Any] | None:
    """The lease in force, or None where the workspace is free."""
    found, _ = _read(storage)
    return found if found and not _is_free(found) else None


def _acquire(storage: Storage, purpose: str) -> dict[str, Any]:
    found, raw = _read(storage)
    if found and not _is_free(found):
        raise BusyError(
            f"{found['purpose']} holds the workspace (process {found['pid']} on {found['host']})",
            where=storage.uri,
            fix=f"wait for it; the lease ends at {found['expires_at']} unless it is renewed",
        )
    pid = os.getpid()
    mine = {"token": int(found.get("token", 0)) + 1, "purpose": purpose, **_host(), "pid": pid}
    mine |= {"started": _started(pid), "expires_at": (_now() + TIME_TO_LIVE).isoformat()}
    mine |= {"nonce": secrets.token_hex(8)}  # no two holders ever write the same bytes
    if not replace_if(storage, PATH, _dump(mine), raw):
        raise BusyError("another command took the workspace in this moment", where=storage.uri, fix="try again")
    return mine


class _Keeper(threading.Thread):
    """Renews the lease in the background until told to stop or until it was lost."""

    def __init__(self, storage: Storage, held: dict[str, Any], stop: threading.Event) -> None:
        super().__init__(daemon=True, name="lease")
        self.storage, self.held, self.stopped = storage, held, stop

    def run(self) -> None:
        while not self.stopped.wait(TIME_TO_LIVE.total_seconds() / 4):
            with suppress(StoreError):  # asked again at the next beat: the lease outlives three that fail
                if not _rewrite(self.storage, {**self.held, "expires_at": (_now() + TIME_TO_LIVE).isoformat()}):
                    return  # taken over: the next write of a shard says so


def _read(storage: Storage) -> tuple[dict[str, Any], bytes | None]:
    if not storage.exists(PATH):
        return {}, None
    raw = storage.read(PATH)
    return json.loads(raw), raw


def _rewrite(storage: Storage, mine: dict[str, Any]) -> bool:
    """Write one's own lease anew; False where it is another's by now."""
    found, raw = _read(storage)
    return found.get("nonce") == mine["nonce"] and replace_if(storage, PATH, _dump(mine), raw)


def _is_free(found: dict[str, Any]) -> bool:
    if found.get("released") or datetime.fromisoformat(found["expires_at"]) <= _now():
        return True
    here = all(found.get(name) == value for name, value in _host().items())
    return bool(here and _started(found["pid"]) != found["started"])


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
