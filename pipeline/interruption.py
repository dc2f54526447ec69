"""Stopping a command by a signal: Ctrl-C, SIGTERM or a closed terminal.

The first signal is raised in the main thread like Ctrl-C, so that leases are given back, workers stopped and journals
left for the next command; a second one ends the process at once, and so does a minute in which the first did not. What
was interrupted may have answered with an error of its own (DuckDB raises a RuntimeError): `received_signal` says that a
signal was the reason.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 60.0
"""Seconds that a stopped command may take to give back what it holds."""
_SAME_SIGNAL_S = 0.5
"""A second signal within so many seconds is the first one again: some programs signal a process and its group."""
RESUMABLE_VERBS = ("nightly", "train", "backfill", "promote", "rollback", "erase", "gc")
"""Verbs that complete what an interrupted run began."""


class _State:
    """The signal that stopped this command, and when it came; the exit code of one that is over."""

    received: signal.Signals | None = None
    at = 0.0
    code: int | None = None


def install_handlers() -> None:
    """Handle the signals; those that the parent process set to be ignored, as nohup does, stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def received_signal() -> signal.Signals | None:
    """The signal that stopped this command, if there was one."""
    return _State.received


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt where a signal came and what it raised was caught by something on the way."""
    if _State.received is not None:
        raise KeyboardInterrupt


def exit_code(number: signal.Signals) -> int:
    """The code of a shell for a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


def interruption_message(number: signal.Signals, verb: str) -> str:
    """What a person reads: by what it was stopped, and how to go on."""
    cause = "Ctrl-C" if number is signal.SIGINT else number.name
    again = "run the same command to resume" if verb in RESUMABLE_VERBS else "run the same command to begin again"
    return f"stopped by {cause}; {again}"


def command_is_over(code: int) -> int:
    """The command is over: a signal from now on ends the process at once, with the code of what was done."""
    _State.code = code
    return code


@contextmanager
def keep_handlers() -> Iterator[Callable[[], None]]:
    """The handlers stay as they are, whatever is installed meanwhile; what is yielded puts them back at once.

    Ray installs one for SIGTERM, in Python and in C++; the latter prints a trace and aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:  # None: installed by something other than Python
                signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()


def _stop(number: int, _: FrameType | None) -> None:
    if _State.code is not None:
        end_process(_State.code)
    now = time.monotonic()
    if _State.received is not None:
        if now - _State.at > _SAME_SIGNAL_S:
            end_process(exit_code(_State.received))
        return
    _State.received, _State.at = signal.Signals(number), now
    threading.Thread(target=_limit, daemon=True, name="grace").start()
    raise KeyboardInterrupt


def _limit() -> None:
    time.sleep(GRACE_S)
    sys.stderr.write(f"samespace: still busy after {GRACE_S:.0f} s; ended\n")
    if _State.received is not None:
        end_process(exit_code(_State.received))


def end_process(code: int) -> None:
    """End the process without waiting for anything; processes of a local Ray end with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # closed, its reader gone, or in the middle of a write
            stream.flush()
    os._exit(code)
