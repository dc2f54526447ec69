"""Text from elsewhere made safe for a terminal: names, ids and paths may hold anything, and a terminal obeys some.

Escape sequences move the cursor, clear the screen or rewrite lines above; bidirectional controls show text in another
order than it has; zero-width characters hide; line breaks forge lines. All of them are shown as Python would escape
them. `safe` leaves line breaks and tabs, for text that has lines of its own; `one_line` escapes these too.
"""

import logging
import sys
import unicodedata
from io import TextIOWrapper

_JOINERS = "\u200c\u200d"
"""Zero-width, but words of Persian and Indic scripts and many emoji need them, and they reorder and hide nothing."""
_LINES = "\n\t"
_SEPARATORS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""General categories: controls, format characters, lone surrogates, line and paragraph separators."""


def safe(text: str) -> str:
    """`text` with every character that could steer a terminal escaped; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():  # most of what is printed, at no cost
        return text
    return "".join(one if one in _LINES or not _steers(one) else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """`text` as a part of one line: as `safe`, line breaks and tabs escaped too."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(_escaped(one) if _steers(one) else one for one in text)


def clipped(text: str, width: int = 80) -> str:
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
        return safe(super().formatException(ei))  # type: ignore[arg-type]


def _steers(one: str) -> bool:
    return one not in _JOINERS and unicodedata.category(one) in _SEPARATORS


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()
