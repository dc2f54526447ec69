"""Progress of long work on stderr: a line that rewrites itself on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

PLAIN_INTERVAL_S = 10.0
TERMINAL_INTERVAL_S = 0.2


class Progress:
    """Counts towards a total and tells rows, rate and time left; use as a context manager.

    On a stderr that is no terminal it writes a plain line every ten seconds, none if the work is shorter.
    """

    def __init__(self, label: str, total: int, unit: str = "rows") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.note = ""
        self.terminal = sys.stderr.isatty()
        self.began = self.told = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def advance(self, count: int, note: str = "") -> None:
        """Count some more work as done; `note` (a loss, say) is shown behind the rate."""
        self.done += count
        self.note = note
        now = time.monotonic()
        if now - self.told >= (TERMINAL_INTERVAL_S if self.terminal else PLAIN_INTERVAL_S):
            self.told = now
            sys.stderr.write(f"\r\033[K{self}" if self.terminal else f"{self}\n")
            sys.stderr.flush()

    def __str__(self) -> str:
        rate = self.done / max(time.monotonic() - self.began, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        note = f", {self.note}" if self.note else ""
        return f"  {self.label}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f}/s, {left:,.0f} s left{note}"
