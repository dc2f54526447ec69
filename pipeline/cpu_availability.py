"""How much of the machine is free: timings taken on a busy machine do not predict timings on an idle one.

A thread that only computes gets a share of its time on a processor. On a quiet machine that is all of it; beside other
programs it is less, the more so for as many threads as there are processors. Times of a night are brought to a quiet
machine by the share that was seen then, and to tonight by the share that is seen now.
"""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

from pydantic import Field

from stores.settings import Settings

SAMPLE_S = 0.3
_BUSY_BLOCK = bytes(2**20)


class CpuShare(Settings):
    """Seconds on a processor for a second of the clock: of one thread, and of as many as there are processors."""

    one: float = Field(default=1.0, gt=0, le=1)
    every: float = Field(default=1.0, gt=0, le=1)
    processors: int = Field(default_factory=lambda: os.cpu_count() or 1)


def measure_cpu() -> CpuShare:
    """The share that is free now; takes six tenths of a second."""
    processors = os.cpu_count() or 1
    one = _on_processor(0)
    with ThreadPoolExecutor(processors) as pool:
        every = fmean(pool.map(_on_processor, range(processors)))
    return CpuShare(one=one, every=min(one, every), processors=processors)


def average(before: CpuShare, after: CpuShare) -> CpuShare:
    """The share of a night that saw one when it began and another when it ended."""
    return CpuShare(
        one=fmean([before.one, after.one]), every=fmean([before.every, after.every]), processors=after.processors
    )


def _on_processor(_: int) -> float:
    """The share of one thread, which computes without the interpreter's lock."""
    began, busy = time.perf_counter(), time.thread_time()
    while (passed := time.perf_counter() - began) < SAMPLE_S:
        hashlib.sha256(_BUSY_BLOCK)
    return min(1.0, max(0.01, (time.thread_time() - busy) / passed))
