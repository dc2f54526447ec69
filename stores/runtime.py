"""Settings of a process and its threads: ordered prefetch, calls with a time limit, allocator, garbage collector,
imports.
"""

import ctypes
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.abc import MetaPathFinder
from typing import Any, TypeVar

import pyarrow as pa

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """What `work` gives for each item; while one result is used, as many as there are threads are made or wait."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def share_thread_pool() -> None:
    """Arrow's threads as many as torch's: the processors that Ray gave the worker, so that none waits."""
    pa.set_cpu_count(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))


_MALLOC_OPTIONS = {-1: 256 << 20, -2: 16 << 20, -3: 256 << 20, -8: 1}
"""For glibc's `mallopt`, bytes: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD; M_ARENA_MAX is a number of heaps."""


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed: every batch needs the same again, and new pages are a fifth of its time."""
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if allocator is not None:
        for option, value in _MALLOC_OPTIONS.items():
            # older ones map nothing above half a heap, and would map everything anew if that were refused
            if not allocator(option, value):
                allocator(option, min(value, 32 << 20))


def relax_garbage_collection() -> None:
    """Let Python look for garbage after ten thousand new objects, not seven hundred: importing torch makes so many, all
    of which stay, that looking takes a fifth of the time.
    """
    gc.set_threshold(10_000)


class WithoutPandas(MetaPathFinder):
    """Lets nothing of this process find pandas."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse pandas, know nothing of any other module."""
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)


def do_without_pandas() -> None:
    """From now on this process finds no pandas, unless it has loaded it before."""
    sys.meta_path.insert(0, WithoutPandas())


THREAD_NAME = "aside"
"""The name of such threads; one that is alive when a command is over hangs."""


def run_with_timeout(seconds: float, work: Callable[..., Result], *arguments: Any) -> Result:
    """What `work(*arguments)` returns or raises; TimeoutError where it takes longer, and then it still runs."""
    found: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work(*arguments))
        except BaseException as error:  # it belongs to the caller
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name=THREAD_NAME)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:g} s")
    if failed:
        raise failed[0]
    return found[0]
