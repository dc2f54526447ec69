"""What a worker does to its own process before it loads a model: one pool of threads, memory kept, few collections."""

import ctypes
import gc
import os

import pyarrow as pa


def one_thread_pool() -> None:
    """Arrow's threads as many as torch's: the processors that Ray gave the worker, so that none waits."""
    pa.set_cpu_count(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))


_KEPT = {-1: 256 << 20, -2: 16 << 20, -3: 256 << 20, -8: 1}
"""For glibc's `mallopt`, bytes: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD; M_ARENA_MAX is a number of heaps."""


def keep_memory() -> None:
    """Let the allocator keep what is freed: every batch needs the same again, and new pages are a fifth of its time."""
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if allocator is not None:
        for option, value in _KEPT.items():
            # older ones map nothing above half a heap, and would map everything anew if that were refused
            allocator(option, value) or allocator(option, min(value, 32 << 20))


def collect_rarely() -> None:
    """Let Python look for garbage after ten thousand new objects, not seven hundred: importing torch makes so many, all
    of which stay, that looking takes a fifth of the time.
    """
    gc.set_threshold(10_000)
