"""Code of others with a limit of time: it runs in a thread of its own, which the caller stops waiting for."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
ASIDE = "aside"
"""The name of such threads; one that is alive when a command is over hangs."""


def within(seconds: float, work: Callable[..., Result], *arguments: Any) -> Result:
    """What `work(*arguments)` returns or raises; TimeoutError where it takes longer, and then it still runs."""
    found: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work(*arguments))
        except BaseException as error:  # it belongs to the caller
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name=ASIDE)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:g} s")
    if failed:
        raise failed[0]
    return found[0]
