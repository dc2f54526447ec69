"""Reading a database file ahead: a day after the last night none of its pages is in memory.

Rows lie all over the file, and page by page a disk gives them at a twentieth of its speed.
"""

import os
from contextlib import suppress
from pathlib import Path

FILES = Path("/proc/self/fd")
STEP = 2**20
"""Bytes to an advice: the kernel follows a longer one in part only."""


def read_ahead(path: Path) -> bool:
    """Ask the kernel for all of a file that this process has open; whether it was asked.

    It is not where the file has no room in half of the memory, nor on systems without Linux's calls. Reading goes on
    in the background. The file is not opened: a process that closes one loses all of its locks on it, SQLite's too.
    """
    size, room = path.stat().st_size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    opened = _opened(path)
    if opened is None or size > room:
        return False
    for start in range(0, size, STEP):
        os.posix_fadvise(opened, start, STEP, os.POSIX_FADV_WILLNEED)
    return True


def _opened(path: Path) -> int | None:
    """A descriptor of this process for a file."""
    wanted = path.stat()
    for entry in FILES.iterdir() if FILES.is_dir() else ():
        with suppress(OSError):  # closed meanwhile
            if os.path.samestat(os.fstat(int(entry.name)), wanted):
                return int(entry.name)
    return None
