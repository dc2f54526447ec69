"""A Ray cluster for as long as it is needed: an existing one by address, or a local one of our own.

Ray is started by a thread that lives as long as the cluster: Linux ends the processes that a thread started when it
ends, and the main thread waits with a limit, free to hear a signal.
"""

import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.interruption import keep_handlers
from pipeline.ray_checks import LOCAL, SHARED_MEMORY, RayConfig, check_object_store, check_ray
from stores.errors import ClusterError, ConfigError, SamespaceError
from stores.ray_capacity import waiting_for_nodes

__all__ = ["RayConfig", "at_hand", "ray_cluster"]

THREAD = "ray"
"""The name of the thread that starts Ray; one that is alive when a command is over hangs in there."""
_LISTEN_S = 0.01
"""Seconds between two looks while Ray starts, which installs a handler for SIGTERM that aborts the process."""
_PAUSE_S = 1.0
log = logging.getLogger(__name__)


@contextmanager
def at_hand(config: RayConfig) -> Iterator[None]:
    """Everything that can be known of Ray before a lease is taken: the checks, and the connection to a cluster.

    `cluster` within it starts a local Ray, or uses the connection. Raises ConfigError where a check fails, as
    `cluster` where a cluster cannot be joined.
    """
    import ray

    if not config.joins and not ray.is_initialized():
        check_ray(config)
    with ray_cluster(config) if config.joins else nullcontext():
        yield


@contextmanager
def ray_cluster(config: RayConfig) -> Iterator[None]:
    """Ray, quiet: no usage report, no dashboard, no log lines of workers on the terminal.

    A Ray that is already running in this process is used as it is and left running. Raises ConfigError where Ray
    refuses its settings or has other versions, ClusterError where it does not start in time.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    check_ray(config)
    keeper = _started(config)
    try:
        with waiting_for_nodes(config.node_wait_s if config.joins else 0.0):
            yield
    finally:
        ray.shutdown()
        keeper.end()


def _started(config: RayConfig) -> "_Keeper":
    """The thread that started Ray, after as many tries as are allowed."""
    arguments, deadline = _arguments(config), time.monotonic() + config.start_timeout_s
    attempt, error = 0, None
    while attempt < config.start_attempts and time.monotonic() < deadline:
        attempt += 1
        keeper = _Keeper(arguments)
        keeper.start()
        error = keeper.wait(deadline)
        if error is None:
            return keeper
        keeper.end()
        _sweep(error)
        if refused := _refusal(error, config):
            raise refused from error
        log.warning("  ray: try %d of %d failed: %s", attempt, config.start_attempts, str(error).partition(". ")[0])
        time.sleep(_PAUSE_S)
    raise ClusterError(
        f"Ray did not start in {attempt} tries: {error}",
        where=_place(config),
        fix="look at the load and the memory of the machine; ray.start_attempts and ray.start_timeout_s are the limits",
    ) from error


class _Keeper(threading.Thread):
    """Starts or joins Ray, and lives until `end`."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(name=THREAD, daemon=True)
        self.arguments = arguments
        self.error: BaseException | None = None
        self._done, self._over = threading.Event(), threading.Event()

    def run(self) -> None:
        """Start Ray; keep its processes."""
        import ray

        try:
            with _few_helpers() if self.arguments["address"] == LOCAL else nullcontext():
                ray.init(**self.arguments)
        except BaseException as error:
            self.error = error
        self._done.set()
        self._over.wait()

    def wait(self, deadline: float) -> BaseException | None:
        """What starting raised, or None. Raises ClusterError at the deadline; then the thread still hangs in Ray."""
        with keep_handlers() as restore:
            while not self._done.wait(_LISTEN_S):
                restore()
                if time.monotonic() > deadline:
                    raise ClusterError(
                        "Ray did not start in time and hangs",
                        where=_shown(self.arguments),
                        expected="ray.start_timeout_s",
                        fix="look at the load of the machine, or at the cluster",
                    )
        return self.error

    def end(self) -> None:
        """Let the thread end; processes that it started and that live end with it."""
        self._over.set()
        self.join()


@contextmanager
def _few_helpers() -> Iterator[None]:
    """Let a local Ray start without processes for an autoscaler and for log lines, and its agents without a web server.

    Nothing here uses them. On a machine under load they keep the agents from starting within the 15 seconds that the
    raylet waits for them before it ends. Ray has no public names for this; where one is gone, that helper starts.
    """
    from ray._private import parameter, utils

    changed = {
        (parameter, "RayParams"): partial(
            getattr(parameter, "RayParams", dict), include_log_monitor=False, no_monitor=True
        ),
        (utils, "get_dashboard_dependency_error"): lambda: ImportError("left out"),
    }
    before = {place: getattr(*place) for place in changed if hasattr(*place)}
    for place in before:
        setattr(*place, changed[place])
    try:
        yield
    finally:
        for place, value in before.items():
            setattr(*place, value)


def _arguments(config: RayConfig) -> dict[str, Any]:
    from ray.job_config import JobConfig

    # Ray would put the folder where the command runs before everything else on the path of its workers, where a folder
    # `pipeline/` of the user's would stand before ours. Workers add that folder themselves, as the last one.
    job = JobConfig(_client_job=True, _py_driver_sys_path=_checkout())
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True, "job_config": job}
    if config.joins:
        return {"address": config.address or config.joins, **common}
    if (place := check_object_store(config)) != SHARED_MEMORY:
        log.warning("%s is too small: Ray's object store lies in %s, which is slower", SHARED_MEMORY, place)
    local = {
        "address": LOCAL,
        "num_cpus": config.num_cpus or os.cpu_count() or 1,
        "include_dashboard": False,
        "object_store_memory": config.object_store_mb * 2**20,
    }
    return {**local, **common, **({"_temp_dir": config.temp_dir} if config.temp_dir else {})}


def _checkout() -> list[str]:
    """The folder that our packages lie in, where they are not installed."""
    root = Path(__file__).resolve().parents[1]
    return [] if root.name in ("site-packages", "dist-packages") else [str(root)]


def _refusal(error: BaseException, config: RayConfig) -> SamespaceError | None:
    """The error to raise at once, where another try would fail in the same way."""
    if "Version mismatch" in str(error):
        told = " ".join(str(error).split())
        return ConfigError(told, where=_place(config), fix="the same Ray and Python here and on the cluster")
    if isinstance(error, ValueError | TypeError):
        return ConfigError(
            f"Ray refuses its settings: {error}", where=_place(config), fix="set [ray], or RAY_… variables"
        )
    if isinstance(error, SamespaceError):
        return error
    return None


def _sweep(error: BaseException) -> None:
    """End what a Ray that failed to start left: only the frames of its error know the processes."""
    import ray

    for frame, _ in traceback.walk_tb(error.__traceback__):
        node: Any = frame.f_locals.get("self")
        if hasattr(node, "kill_all_processes"):
            with suppress(Exception):  # some were never started
                node.kill_all_processes(check_alive=False, allow_graceful=False)
    traceback.clear_frames(error.__traceback__)
    with suppress(Exception):
        ray.shutdown()


def _place(config: RayConfig) -> str:
    return f"the cluster at {config.joins}" if config.joins else "a Ray of this command's own"


def _shown(arguments: dict[str, Any]) -> str:
    return f"ray.init(address={arguments['address']!r})"
