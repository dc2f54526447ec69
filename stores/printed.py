"""Work that waits until the answer of a command was printed. Every command imports this module: it stays light."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stores.errors import SamespaceError

_waiting: list[Callable[[], None]] = []
_blocks: list[None] = []
"""One entry for each block of `until_printed` that this process is in."""


def when_printed(work: Callable[[], None]) -> None:
    """Do some work at the end of the block of `until_printed`; outside of one at once."""
    if _blocks:
        _waiting.append(work)
    else:
        work()


@contextmanager
def until_printed() -> Iterator[None]:
    """Hold back what `when_printed` is given until the end of this block, where the answer of a command was printed.

    An error of samespace is an answer too. Where the process is killed, or the answer cannot be written, the work is
    not done.
    """
    _blocks.append(None)
    try:
        yield
    except SamespaceError:
        _do_all()
        raise
    else:
        _do_all()
    finally:
        _waiting.clear()
        _blocks.pop()


def _do_all() -> None:
    while _waiting:
        _waiting.pop(0)()
