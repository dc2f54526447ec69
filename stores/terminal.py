"""Output of commands: text from elsewhere made safe for a terminal, and work deferred until an answer was printed."""

import logging
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from stores.errors import SamespaceError

_waiting: list[Callable[[], None]] = []
_blocks: list[None] = []
"""One entry for each block of `defer_until_output` that this process is in."""


def after_output(work: Callable[[], None]) -> None:
    """Do some work at the end of the block of `defer_until_output`; outside of one at once."""
    if _blocks:
        _waiting.append(work)
    else:
        work()


@contextmanager
def defer_until_output() -> Iterator[None]:
    """Hold back what `after_output` is given until the end of this block, where the answer of a command was printed.

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


_JOINERS = "\u200c\u200d"
"""Zero-width, but words of Persian and Indic scripts and many emoji need them, and they reorder and hide nothing."""
_LINES = "\n\t"
_SEPARATORS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""General categories: controls, format characters, lone surrogates, line and paragraph separators."""


def escape_controls(text: str) -> str:
    """`text` with every character that could steer a terminal escaped; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():  # most of what is printed, at no cost
        return text
    return "".join(one if one in _LINES or not _steers(one) else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """`text` as a part of one line: as `escape_controls`, line breaks and tabs escaped too."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(_escaped(one) if _steers(one) else one for one in text)


def truncate(text: str, width: int = 80) -> str:
    """`text` as a part of one line of at most `width` characters; one that is longer ends in an ellipsis."""
    line = one_line(text[: width + 1])
    return line if len(line) <= width else f"{line[: width - 1]}…"


def print_anything() -> None:
    """Let stdout and stderr escape what their encoding lacks, where printing it would end the command with a trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class SafeFormatter(logging.Formatter):
    """Log records as lines that cannot steer a terminal; a message is one line, a trace keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """The line of a record."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """The trace of a record."""
        return escape_controls(super().formatException(ei))  # type: ignore[arg-type]


def _steers(one: str) -> bool:
    return one not in _JOINERS and unicodedata.category(one) in _SEPARATORS


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()
