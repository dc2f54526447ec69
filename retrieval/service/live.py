"""The live release, followed: a thread looks at the pointer, opens what it names, and lets it take the old one's place.

Requests that hold the old release finish on it. A release that cannot be opened leaves the old one
serving, is counted, and is tried again.
"""

import logging
import threading
from collections.abc import Callable

from retrieval.service.opened import Catalogue, OpenRelease
from stores.errors import SamespaceError
from stores.release import Release
from stores.workspace import Workspace

log = logging.getLogger("samespace.serve")


class Live:
    """The live release of a workspace, opened; `opened` never waits and never gives half of one."""

    def __init__(self, workspace: Workspace, refresh_s: float = 1.0) -> None:
        self.workspace, self.refresh_s = workspace, refresh_s
        self.swaps = self.failures = 0
        self._opened: OpenRelease | None = None
        self._state = ("", 0, 0)
        self._before: tuple[str, Catalogue | None] | None = None
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._watcher: threading.Thread | None = None

    @property
    def opened(self) -> OpenRelease | None:
        """The live release, or None before the first one."""
        return self._opened

    def refresh(self) -> bool:
        """Look at the pointer once; whether anything was opened anew. Raises what opening it raises."""
        with self._lock:
            pointer = self.workspace.pointer()
            if pointer is None:
                return False
            release = self.workspace.release(pointer["release_id"])
            state = _state(release)
            if state == self._state:
                return False
            opened = OpenRelease.of(release)
            self.swaps += self._opened is not None
            self._opened, self._state = opened, state
        log.info("serving %s, space %s", opened.release_id, opened.space_id)
        return True

    def before(self, opened: OpenRelease) -> Catalogue | None:
        """The titles that were live before a release's night; None where they are gone. Opened once and kept."""
        with self._lock:
            if self._before is None or self._before[0] != opened.release_id:
                self._before = opened.release_id, self._previous(opened)
            return self._before[1]

    def _previous(self, opened: OpenRelease) -> Catalogue | None:
        name = opened.release.plan.previous_release
        found = Release(self.workspace.uri, name) if name else None
        return Catalogue.of(found) if found and found.sealed else None

    def start(self, told: Callable[[str], None] = log.warning) -> None:
        """Open what is live now, if anything is, and follow the pointer until `stop`."""
        self.refresh()
        self._watcher = threading.Thread(target=self._watch, args=(told,), name="samespace-live", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop following; what is open stays open."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self, told: Callable[[str], None]) -> None:
        while not self._stop.wait(self.refresh_s):
            try:
                self.refresh()
            except (SamespaceError, OSError) as error:
                self.failures += 1
                told(f"the new release cannot be opened, the old one goes on serving: {error}")


def _state(release: Release) -> tuple[str, int, int]:
    """What must be opened anew when it changes: the release, and its manifest, which an erasure writes again."""
    manifest = release.storage.fs.get_file_info("manifest.json")
    return release.release_id, manifest.mtime_ns or 0, manifest.size or 0
