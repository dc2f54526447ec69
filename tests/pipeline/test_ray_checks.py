"""What would keep Ray from starting is found before, named, and shown by the doctor."""

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline import health_checks, ray_checks
from pipeline import ray_cluster as clusters
from pipeline.cli import main
from pipeline.config import Config
from pipeline.ray_checks import RayConfig, check_ray, temp_folder
from pipeline.ray_cluster import at_hand, ray_cluster
from stores.errors import ClusterError, ConfigError, SamespaceError
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.ray_capacity import Capacity
from stores.releases.workspace import Workspace

Usage = namedtuple("Usage", ["total", "used", "free"])
VARIABLES = ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR", "RAY_GCS_SERVER_PORT", "RAY_USE_TLS")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of something that listens and never answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def refused(config: RayConfig) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_ray(config)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    return caught.value


def test_a_machine_as_usual_is_fit(short: Path) -> None:
    check_ray(RayConfig())
    check_ray(RayConfig(temp_dir=str(short / "ray")))
    assert list((short / "ray").iterdir()) == []


@pytest.mark.parametrize("setting", ["RAY_TMPDIR", "TMPDIR", "temp_dir"])
def test_paths_that_are_too_long_for_a_socket_are_counted_in_bytes(
    setting: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty letters of two bytes each, and what Ray appends."""
    place = short / ("ö" * 60)
    config = RayConfig(temp_dir=str(place)) if setting == "temp_dir" else RayConfig()
    if setting != "temp_dir":
        monkeypatch.setenv(setting, str(place))
    error = refused(config)
    assert "bytes" in error.what
    assert str(place) in error.where
    assert "RAY_TMPDIR=/tmp" in error.fix


def test_the_longest_path_that_is_allowed_is_bound_by_ray(short: Path) -> None:
    """One byte less is taken, and the kernel takes it; one more is refused by both."""
    room = ray_checks._LONGEST_SOCKET - len(f"/{ray_checks._SESSION}{os.getpid()}/{ray_checks._SOCKET}")
    for extra, fits in ((0, True), (1, False)):
        folder = short / ("x" * (room + extra - len(str(short)) - 1))
        path = folder / f"{ray_checks._SESSION}{os.getpid()}" / ray_checks._SOCKET
        path.parent.mkdir(parents=True)
        if fits:
            check_ray(RayConfig(temp_dir=str(folder)))
        else:
            refused(RayConfig(temp_dir=str(folder)))
        with socket.socket(socket.AF_UNIX) as bound:
            if fits:
                bound.bind(str(path))
            else:
                with pytest.raises(OSError, match="too long"):
                    bound.bind(str(path))


def test_a_folder_that_cannot_be_made_or_written_is_named(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "file").touch()
    assert str(short / "file") in refused(RayConfig(temp_dir=str(short / "file"))).where
    monkeypatch.setattr(
        ray_checks.tempfile, "TemporaryDirectory", lambda **_: (_ for _ in ()).throw(PermissionError(13))
    )
    assert "rights" in refused(RayConfig(temp_dir=str(short))).fix


def test_a_full_disk_and_a_full_shared_memory(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {str(short): 1 << 20, "/dev/shm": 1 << 40}
    monkeypatch.setattr(ray_checks.shutil, "disk_usage", lambda place: Usage(0, 0, free[str(place)]))
    config = RayConfig(temp_dir=str(short))
    assert "MB are free" in refused(config).what
    free[str(short)] = 100 << 20
    check_ray(config)
    free["/dev/shm"] = 1 << 20
    error = refused(config)
    assert "/dev/shm has only 1 MiB free" in error.what
    assert "--shm-size" in error.fix
    free[str(short)] = 1 << 40  # Ray maps a file there, which is slower
    check_ray(config)
    found = {
        one["what"]: one
        for one in health_checks.check_environment(Config(ray=config), Workspace.open(str(short / "ws")))
    }
    assert found["ray object store"]["state"] == "warn"
    assert str(short) in found["ray object store"]["says"]


def test_a_store_larger_than_the_machine_or_smaller_than_ray_allows_is_refused() -> None:
    assert "MiB of memory" in refused(RayConfig(object_store_mb=10**9)).what
    for values in ({"object_store_mb": 10}, {"num_cpus": 0}, {"num_cpus": -1}):
        with pytest.raises(ValidationError):
            RayConfig(**values)


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("", 0))
        bound.listen()
        monkeypatch.setenv("RAY_GCS_SERVER_PORT", str(bound.getsockname()[1]))
        assert "RAY_GCS_SERVER_PORT" in refused(RayConfig()).where
    monkeypatch.setenv("RAY_GCS_SERVER_PORT", "many")
    refused(RayConfig())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:6379"])
@pytest.mark.parametrize("source", ["ray.address", "RAY_ADDRESS"])
def test_a_cluster_that_is_not_there_is_named(address: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "RAY_ADDRESS":
        monkeypatch.setenv(source, address)
    error = refused(RayConfig(address=address if source == "ray.address" else "", connect_timeout_s=2.0))
    assert address in error.where
    assert source in error.where


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1", "head", "head:port", "head:99999999", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "not an address" in refused(RayConfig(address=address)).what


def test_something_that_listens_and_never_answers_is_given_up(mute: str) -> None:
    assert "no answer in 0.2 s" in refused(RayConfig(address=mute, connect_timeout_s=0.2)).what


def test_auto_is_the_cluster_that_was_started_here(short: Path, mute: str) -> None:
    config = RayConfig(address="auto", temp_dir=str(short), connect_timeout_s=0.2)
    assert "ray start" in refused(config).fix
    (short / "ray_current_cluster").write_text(mute)
    assert mute in refused(config).where
    assert RayConfig(address="local").joins == ""


def test_the_folder_is_rays_own(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_ray_temp_dir

    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(short / name))
        assert str(temp_folder(RayConfig())) == get_default_ray_temp_dir()


def test_no_lease_is_taken_where_ray_cannot_be_had(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another file may have started one in this process
    monkeypatch.chdir(short)
    simulate("lake", SimulationConfig(members=20, titles=20, days=5))
    words = ["--lake", "lake", "--workspace", "ws"]
    span = ["--from", "2026-01-01", "--to", "2026-01-02"]
    for verb in (["nightly", *words], ["backfill", *words, *span]):
        assert main([*verb, "--set", "ray.address=127.0.0.1:1"]) == 2
        assert "no Ray answers" in capsys.readouterr().err
        assert not Path("ws", "lease.json").exists()
    assert main(["doctor", *words, "--set", "ray.address=127.0.0.1:1"]) == 1
    assert "no Ray answers" in capsys.readouterr().out
    assert not Path("ws", "lease.json").exists()


# --- starting


class Starts:
    """Stands for `ray.init`: fails so often, or hangs."""

    def __init__(self, *faults: Any) -> None:
        self.faults, self.calls, self.over = list(faults), 0, threading.Event()

    def __call__(self, **_: Any) -> None:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            self.over.wait()
        elif fault:
            raise fault


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Any:
    import ray

    def use(*faults: Any) -> Starts:
        found = Starts(*faults)
        monkeypatch.setattr(ray, "init", found)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        monkeypatch.setattr(clusters, "_PAUSE_S", 0.0)
        return found

    return use


SLOW = Exception("The current node timed out during startup.")


def test_a_start_that_times_out_is_tried_again(starts: Any) -> None:
    before = set(threading.enumerate())  # another file may keep a Ray in this process
    ray = starts(SLOW, SLOW)
    with ray_cluster(RayConfig(start_attempts=3)):
        assert ray.calls == 3
        assert Capacity().wait_s == 0.0
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == clusters.THREAD]


def test_a_start_that_always_fails_ends_after_so_many_tries(starts: Any) -> None:
    ray = starts(*[SLOW] * 9)
    with (
        pytest.raises(ClusterError, match=r"2 tries.*timed out during startup"),
        ray_cluster(RayConfig(start_attempts=2)),
    ):
        pass
    assert ray.calls == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.9"), r"Version mismatch.*Ray: 2\.9"),
        (ValueError("The plasma directory does not exist"), "refuses its settings"),
    ],
)
def test_what_another_try_would_not_change_is_refused_at_once(starts: Any, fault: Exception, says: str) -> None:
    ray = starts(fault)
    with pytest.raises(ConfigError, match=says), ray_cluster(RayConfig()):
        pass
    assert ray.calls == 1


def test_a_start_that_hangs_ends_at_the_limit(starts: Any) -> None:
    ray = starts("hang")
    began = time.monotonic()
    with pytest.raises(ClusterError, match="hangs"), ray_cluster(RayConfig(start_timeout_s=0.2)):
        pass
    assert time.monotonic() - began < 60
    ray.over.set()


def test_a_cluster_is_joined_before_the_lease_and_may_grow(starts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = starts()
    monkeypatch.setattr(clusters, "check_ray", lambda config: None)
    with at_hand(RayConfig(address="head:6379", node_wait_s=7.0)):
        assert ray.calls == 1
        assert Capacity().wait_s == 7.0
    with at_hand(RayConfig()):
        assert ray.calls == 1  # a local one is started by `cluster`, under the lease


def test_every_error_of_a_start_is_ours(starts: Any) -> None:
    for fault in (ConnectionError("no"), OSError(28, "No space left on device"), KeyError("session")):
        starts(*[fault] * RayConfig().start_attempts)
        with pytest.raises(SamespaceError), ray_cluster(RayConfig()):
            pass
    assert sys.exc_info() == (None, None, None)
