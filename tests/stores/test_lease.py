"""One writer at a time; a dead holder's lease is taken over, a living one's is not."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stores.errors import BusyError, StoreError
from stores.files.filesystem import Storage
from stores.releases import lease as leases
from stores.releases.lease import LEASE_FILE, check_token, current_lease, lease

HOLD_AND_DIE = """
import os, sys
from stores.releases.lease import lease
from stores.files.filesystem import Storage
with lease(Storage(sys.argv[1]), "doomed"):
    os._exit(9)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_the_second_holder_is_refused_and_told_who_holds_it(storage: Storage) -> None:
    with lease(storage, "a night"), pytest.raises(BusyError, match="a night") as caught, lease(storage, "another"):
        pass
    assert caught.value.exit_code == 5


def test_tokens_rise_and_the_old_one_is_fenced_off(storage: Storage) -> None:
    with lease(storage, "one") as first:
        check_token(storage, first)
        assert current_lease(storage)
    assert current_lease(storage) is None
    with lease(storage, "two") as second:
        assert second > first
        with pytest.raises(BusyError):
            check_token(storage, first)


def test_a_dead_process_of_this_host_is_taken_over_at_once(storage: Storage) -> None:
    died = subprocess.run([sys.executable, "-c", HOLD_AND_DIE, storage.uri], check=False)
    assert died.returncode == 9
    assert json.loads(storage.read(LEASE_FILE))["purpose"] == "doomed"
    with lease(storage, "next") as token:
        assert token == 2


def test_another_hosts_lease_holds_until_it_expires(storage: Storage) -> None:
    held = {"token": 7, "purpose": "far", "host": "elsewhere", "pid": 1, "started": "1"}
    later = datetime.now(UTC) + timedelta(minutes=1)
    storage.write(LEASE_FILE, json.dumps({**held, "expires_at": later.isoformat()}).encode())
    with pytest.raises(BusyError, match="elsewhere"), lease(storage, "next"):
        pass
    past = later - timedelta(hours=1)
    storage.write(LEASE_FILE, json.dumps({**held, "expires_at": past.isoformat()}).encode())
    with lease(storage, "next") as token:
        assert token == 8


def test_a_renewal_that_fails_is_tried_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply of one is lost after it was written, too."""
    monkeypatch.setattr(leases, "TIME_TO_LIVE", timedelta(seconds=0.4))
    real, calls = leases.replace_if, []

    def flaky(storage: Storage, path: str, data: bytes, expected: bytes | None) -> bool:
        calls.append(path)
        if len(calls) == 2:
            raise StoreError("503 slow down")
        done = real(storage, path, data, expected)
        if len(calls) == 3:
            raise StoreError("no reply")
        return done

    monkeypatch.setattr(leases, "replace_if", flaky)
    with lease(storage, "a night") as token:
        first = json.loads(storage.read(LEASE_FILE))["expires_at"]
        patience = time.monotonic() + 20
        while len(calls) < 6 and time.monotonic() < patience:
            time.sleep(0.02)
        assert len(calls) >= 6, "nobody renews the lease any more"
        check_token(storage, token)
        assert json.loads(storage.read(LEASE_FILE))["expires_at"] > first
    assert json.loads(storage.read(LEASE_FILE))["released"]


def test_a_lease_that_cannot_be_given_back_runs_out(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise StoreError("503 slow down")

    with lease(storage, "a night"):
        monkeypatch.setattr(leases, "replace_if", refuse)
    assert "released" not in json.loads(storage.read(LEASE_FILE))


@pytest.mark.parametrize("other", ["boot", "host"])
def test_a_process_that_cannot_be_seen_from_here_is_not_taken_for_dead(storage: Storage, other: str) -> None:
    """Two containers of one name see no process of each other."""
    died = subprocess.run([sys.executable, "-c", HOLD_AND_DIE, storage.uri], check=False)
    assert died.returncode == 9
    held = json.loads(storage.read(LEASE_FILE))
    storage.write(LEASE_FILE, json.dumps({**held, other: "another"}).encode())
    with pytest.raises(BusyError, match="doomed"), lease(storage, "next"):
        pass
    storage.write(LEASE_FILE, json.dumps(held).encode())
    with lease(storage, "next") as token:
        assert token == 2


def moved_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Set the clock of this host forward or back; its time since boot goes on as before."""
    monkeypatch.setattr(leases, "_now", lambda: datetime.now(UTC) + by)


@pytest.mark.parametrize("hours", [-24, -1, 1, 24 * 365])
def test_a_clock_that_is_moved_takes_the_workspace_from_no_living_command(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    with lease(storage, "a night") as token:
        moved_clock(monkeypatch, timedelta(hours=hours))
        with pytest.raises(BusyError, match="a night"), lease(storage, "another"):
            pass
        check_token(storage, token)
        assert current_lease(storage)
    with lease(storage, "next") as later:
        assert later == token + 1


@pytest.mark.parametrize("hours", [-24, 24])
def test_after_a_clock_was_moved_a_dead_process_of_this_host_is_taken_over_at_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    died = subprocess.run([sys.executable, "-c", HOLD_AND_DIE, storage.uri], check=False)
    assert died.returncode == 9
    moved_clock(monkeypatch, timedelta(hours=hours))
    with lease(storage, "next") as token:
        assert token == 2


def test_a_command_of_this_host_that_stopped_renewing_is_taken_over(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives, but it is stopped or hangs: two minutes of this host's time since boot are enough."""
    up = leases._up_s()
    if up is None:
        pytest.skip("this kernel does not say how long it has been up")
    with lease(storage, "a night") as token:
        monkeypatch.setattr(leases, "_up_s", lambda: up + 1000)
        with lease(storage, "another") as later:
            assert later == token + 1
        with pytest.raises(BusyError, match="taken over"):
            check_token(storage, token)


def test_a_lease_of_another_host_whose_clock_was_ahead_says_how_to_end_it(storage: Storage) -> None:
    held = {"token": 7, "purpose": "far", "host": "elsewhere", "pid": 1, "started": "1"}
    later = datetime.now(UTC) + timedelta(days=400)
    storage.write(LEASE_FILE, json.dumps({**held, "expires_at": later.isoformat()}).encode())
    with pytest.raises(BusyError, match="elsewhere") as caught, lease(storage, "next"):
        pass
    assert "a clock was moved" in caught.value.fix
    assert "delete lease.json" in caught.value.fix
    storage.delete(LEASE_FILE)
    storage.write("releases/x", b"")
    with lease(storage, "next") as token:
        assert token > 7


def test_a_place_that_cannot_be_written_is_named(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"lease\.json.*Read-only file system"), lease(storage, "next"):
        pass
