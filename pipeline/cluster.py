"""A Ray cluster for as long as it is needed: an existing one by address, or a local one of our own."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from stores.settings import Settings


class RayConfig(Settings):
    """How to reach or start Ray.

    `address` joins a cluster ("auto", or ray://…); without one a local Ray of `num_cpus` cores
    (default: all of them) is started and stopped again. `object_store_mb` bounds its shared memory.
    """

    address: str = ""
    num_cpus: int | None = None
    object_store_mb: int = 512


@contextmanager
def cluster(config: RayConfig) -> Iterator[None]:
    """Ray, quiet: no usage report, no dashboard, no log lines of workers on the terminal.

    A Ray that is already running in this process is used as it is and left running.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    common = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if address:
        ray.init(address=address, **common)
    else:
        cores = config.num_cpus or os.cpu_count() or 1
        memory = config.object_store_mb * 2**20
        ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=memory, **common)
    try:
        yield
    finally:
        ray.shutdown()
