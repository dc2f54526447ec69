"""The live release, followed: a thread looks at the pointer, opens what it names, and lets it take the old one's place.

Requests that hold the old release finish on it. A release that cannot be opened, for whatever reason, leaves the old
one serving, is counted, is logged once per cause, and is tried again with longer and longer pauses; a pointer that
moves meanwhile is followed at once. `standing` says what is served, what is live, and whether the thread still looks.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from retrieval.service.loaded_release import LoadedRelease, TitleCatalogue
from stores.releases.release import Release
from stores.releases.workspace import Workspace

log = logging.getLogger("samespace.serve")

State = tuple[str, int, int]
"""What must be opened anew when it changes: the release, time and size of its manifest, which an erasure rewrites."""


@dataclass(frozen=True)
class Target:
    """What the pointer names: the release, its state, and when that came to be (UTC; None where nothing says so)."""

    release: Release
    state: State
    since: datetime | None


@dataclass(frozen=True)
class Standing:
    """How far the service follows the pointer.

    `served` and `live` are release ids, None before the first release. `behind_s` is how long ago what is live came to
    be, 0 where it is what is served. `heartbeat_age_s` is the time since the thread last looked at the pointer, None
    where no thread follows. `failures` counts the attempts since the last one that succeeded, `error` names the kind of
    the last one, without its text, which may hold paths.
    """

    served: str | None
    live: str | None
    behind_s: float
    heartbeat_age_s: float | None
    watching: bool
    failures: int
    error: str | None


class ReleaseWatcher:
    """The live release of a workspace, opened; `current` never waits and never gives half of one."""

    def __init__(self, workspace: Workspace, refresh_s: float = 1.0, retry_max_s: float = 60.0) -> None:
        self.workspace, self.refresh_s, self.retry_max_s = workspace, refresh_s, retry_max_s
        self.swaps = self.failures = 0
        self._served: tuple[LoadedRelease, State] | None = None
        self._target: Target | None = None
        self._failing = _Failing()
        self._beat: float | None = None
        self._before: tuple[str, TitleCatalogue | None] | None = None
        self._stop, self._lock, self._before_lock = threading.Event(), threading.Lock(), threading.Lock()
        self._watcher: threading.Thread | None = None

    @property
    def current(self) -> LoadedRelease | None:
        """The live release, or None before the first one."""
        served = self._served
        return None if served is None else served[0]

    def refresh(self) -> bool:
        """Look at the pointer once; whether anything was opened anew. Raises what opening it raises."""
        with self._lock:
            target = self._look()
            return target is not None and self._open(target)

    def standing(self) -> Standing:
        """How far the service follows the pointer, from memory: no file is looked at."""
        served, target, beat = self._served, self._target, self._beat
        return Standing(
            served=served[0].release_id if served else None,
            live=target.state[0] if target else None,
            behind_s=_age(target, served[1] if served else None),
            heartbeat_age_s=None if beat is None else time.monotonic() - beat,
            watching=self._watcher is not None and self._watcher.is_alive(),
            failures=self._failing.count,
            error=self._failing.kind,
        )

    def previous_catalogue(self, opened: LoadedRelease) -> TitleCatalogue | None:
        """The titles that were live before a release's night; None where they are gone. Opened once and kept."""
        with self._before_lock:
            if self._before is None or self._before[0] != opened.release_id:
                self._before = opened.release_id, self._previous(opened)
            return self._before[1]

    def _previous(self, opened: LoadedRelease) -> TitleCatalogue | None:
        name = opened.release.plan.previous_release
        found = Release(self.workspace.uri, name) if name else None
        return TitleCatalogue.load(found) if found and found.sealed else None

    def start(self, told: Callable[[str], None] = log.error) -> None:
        """Open what is live now, if nothing is open yet, and follow the pointer until `stop`.

        Raises what opening the first release raises; later failures are given to `told`, once per cause.
        """
        if self._watcher is not None and self._watcher.is_alive():
            return
        if self._served is None:
            self.refresh()
        self._stop.clear()
        self._beat = time.monotonic()
        self._watcher = threading.Thread(target=self._watch, args=(told,), name="samespace-live", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop following; what is open stays open."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self, told: Callable[[str], None]) -> None:
        """Follow until `stop`, which alone ends the loop: a dead thread would serve the old release for ever."""
        while not self._stop.is_set():
            try:
                if self._stop.wait(self.refresh_s):
                    return
                self._beat = time.monotonic()
                self._follow()
            except BaseException as error:  # also MemoryError, SystemExit and whatever a library derives from neither
                with suppress(BaseException):
                    self._failed(error, told)
                time.sleep(min(self.refresh_s, 1.0))  # `wait` itself may be what fails

    def _follow(self) -> None:
        with self._lock:
            target = self._look()
            served = self._served[1] if self._served else None
            if target is None or target.state == served:
                self._failing = _Failing()
            elif target.state != self._failing.state or time.monotonic() >= self._failing.retry_at:
                self._failing = self._failing.of(target.state)
                self._open(target)
                self._failing = _Failing()

    def _failed(self, error: BaseException, told: Callable[[str], None]) -> None:
        self.failures += 1
        known, self._failing = self._failing, self._failing.again(error, self.refresh_s, self.retry_max_s)
        if self._failing.cause != known.cause:
            told(f"the live release cannot be opened, the old one goes on serving: {type(error).__name__}: {error}")

    def _look(self) -> Target | None:
        """What the pointer names now; None before the first release."""
        pointer = self.workspace.pointer()
        if pointer is None:
            return None
        release = self.workspace.release(pointer["release_id"])
        manifest = release.storage.fs.get_file_info("manifest.json")
        state = release.release_id, manifest.mtime_ns or 0, manifest.size or 0
        served = self._served[1] if self._served else None
        erased = served is not None and served[0] == release.release_id and served != state
        since = manifest.mtime if erased else _moment(pointer.get("promoted_at"))
        self._target = Target(release, state, since)
        return self._target

    def _open(self, target: Target) -> bool:
        if self._served is not None and target.state == self._served[1]:
            return False
        opened = LoadedRelease.load(target.release)
        self.swaps += self._served is not None
        self._served = opened, target.state
        with self._before_lock:
            self._before = None  # holds files of a release that may be removed now
        log.info("serving %s, space %s", opened.release_id, opened.space_id)
        return True


@dataclass(frozen=True)
class _Failing:
    """Attempts that failed one after the other: at which state, how many, why, and when to try that state again."""

    state: State | None = None
    count: int = 0
    kind: str | None = None
    cause: str = ""
    retry_at: float = 0.0

    def of(self, state: State) -> "_Failing":
        """The attempts at a state; those at another one are forgotten."""
        return self if state == self.state else _Failing(state, cause=self.cause)

    def again(self, error: BaseException, pause: float, longest: float) -> "_Failing":
        """One more attempt; pauses double from `pause` up to `longest` seconds."""
        wait = min(pause * 2.0 ** min(self.count, 30), longest)
        kind = type(error).__name__
        return _Failing(self.state, self.count + 1, kind, f"{self.state} {kind}: {error}", time.monotonic() + wait)


def _age(target: Target | None, served: State | None) -> float:
    """Seconds since what is live came to be; 0 where it is served."""
    if target is None or target.since is None or target.state == served:
        return 0.0
    return max(0.0, (datetime.now(UTC) - target.since).total_seconds())


def _moment(text: object) -> datetime | None:
    """A time of the pointer, in UTC where it names no zone; None where it is no time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
