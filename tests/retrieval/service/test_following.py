"""Nothing ends the following of the pointer: failures are counted, said once, tried again, and shown by the probes."""

import errno
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow as pa
import pytest

from retrieval.service import LoadedRelease, ReleaseWatcher, ServeConfig, create_app
from retrieval.service import release_watcher as module
from stores.files.checksummed_json import dump_checksummed


class Unforeseen(BaseException):
    """Derived from nothing that anyone catches."""


FAILURES = [
    MemoryError(),
    OSError(errno.EMFILE, "Too many open files"),
    pa.ArrowInvalid("Parquet magic bytes not found"),
    pa.ArrowMemoryError("malloc of size 1 failed"),
    RuntimeError("FAISS"),
    RecursionError(),
    SystemExit(1),
    KeyboardInterrupt(),
    Unforeseen(),
]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the suite's own limit of time ends what never does."""
    while not holds():
        time.sleep(0.01)


@pytest.fixture
def opening(monkeypatch):
    """Makes opening raise an error as often as asked, then work; counts the attempts."""

    class Opening:
        def __init__(self) -> None:
            self.error, self.left, self.tried = None, 0, 0
            really = LoadedRelease.load
            monkeypatch.setattr(module.LoadedRelease, "load", lambda release: self.open(really, release))

        def fail(self, error: BaseException, times: int) -> None:
            self.error, self.left = error, times

        def open(self, really, release):
            self.tried += 1
            if self.left > 0:
                self.left -= 1
                raise self.error
            return really(release)

    return Opening()


@pytest.fixture
def followed(published, opening):
    """A live release that is followed; its watcher looks every 20 ms and tries again at the latest after 50."""
    live = ReleaseWatcher(published.workspace, refresh_s=0.02, retry_max_s=0.05)
    said: list[str] = []
    live.start(said.append)
    live.said = said
    yield live
    live.stop()


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_opening_raises_it_is_counted_said_once_and_tried_again(published, followed, opening, error):
    held = followed.current.release_id
    opening.fail(error, 4)
    new = published.night(7)
    eventually(lambda: followed.current.release_id == new.release_id)
    assert followed.failures == 4
    assert len(followed.said) == 1
    assert type(error).__name__ in followed.said[0]
    assert held != new.release_id
    eventually(lambda: followed.standing().failures == 0)
    assert followed.standing().error is None


def test_two_causes_are_said_and_what_says_them_may_fail(published, followed, opening):
    def raising(text):
        said.append(text)
        raise MemoryError

    said: list[str] = []
    followed.stop()
    following = ReleaseWatcher(published.workspace, refresh_s=0.02, retry_max_s=0.05)
    following.start(raising)
    opening.fail(MemoryError(), 10**9)
    published.night(7)
    eventually(lambda: following.failures >= 3)
    opening.fail(OSError(errno.EMFILE, "Too many open files"), 10**9)
    eventually(lambda: len(said) == 2)
    eventually(lambda: following.failures >= 8)
    assert len(said) == 2
    opening.left = 0
    eventually(lambda: following.standing().behind_s == 0)
    following.stop()


def test_pauses_grow_and_another_release_is_not_made_to_wait(published, opening):
    """Behind a release that is tried again in an hour, a rollback is followed at once."""
    live = ReleaseWatcher(published.workspace, refresh_s=0.02, retry_max_s=3600)
    live.start(lambda _: None)
    live._failing = module._Failing(count=20)
    first = live.current.release
    opening.fail(MemoryError(), 10**9)
    published.night(7)
    eventually(lambda: live.failures >= 1)
    tried = opening.tried
    third = published.night(8)
    eventually(lambda: opening.tried > tried)
    assert live.current.release_id == first.release_id
    opening.left = 0
    published.point(first)
    eventually(lambda: live.standing().live == first.release_id)
    eventually(lambda: live.standing().failures == 0)
    published.point(third)
    eventually(lambda: live.current.release_id == third.release_id)
    live.stop()


def test_a_pointer_that_cannot_be_read_or_names_nothing_is_a_failure_like_any(published, followed):
    held = followed.current.release_id
    good = published.workspace.storage.read("current.json")
    gone = {"release_id": "20200101T000000Z-0000", "space_id": "1", "promoted_at": "2026-07-21T02:00:00Z"}
    for bad in (b"", b"{", b"[]", b"{}", b'{"release_id": "../x"}', b"\xff\xfe", json.dumps(gone).encode()):
        before = followed.failures
        published.workspace.storage.write("current.json", bad)
        eventually(lambda before=before: followed.failures > before)
        assert followed.current.release_id == held
    published.workspace.storage.write("current.json", good)
    eventually(lambda: followed.standing().failures == 0)
    assert followed.standing().watching


def test_health_says_what_is_served_what_is_live_and_how_long_since(published, followed, opening, plane, listen):
    settings = ServeConfig(max_behind_s=100)
    held = followed.current.release_id
    opening.fail(MemoryError(), 10**9)
    new = published.night(7)
    with listening(listen, followed, settings, plane) as url:
        well = httpx.get(f"{url}/healthz").json()
        for back, ready in ((50, 200), (500, 503)):
            moved = datetime.now(UTC) - timedelta(seconds=back)
            facts = {"release_id": new.release_id, "space_id": "1", "promoted_at": moved.isoformat()}
            published.workspace.storage.write("current.json", dump_checksummed(facts))
            eventually(lambda back=back: followed.standing().behind_s >= back)
            answer = httpx.get(f"{url}/healthz")
            assert answer.status_code == 200
            health = answer.json()
            assert health["status"] == "behind"
            assert (health["release_id"], health["live_release_id"]) == (held, new.release_id)
            assert back <= health["behind_s"] < back + 400
            assert (health["failures"] > 0, health["error"]) == (True, "MemoryError")
            assert httpx.get(f"{url}/readyz").status_code == ready
            figures = dict(line.rsplit(" ", 1) for line in httpx.get(f"{url}/metrics").text.splitlines())
            assert float(figures["samespace_release_behind_seconds"]) >= back
        opening.left = 0
        eventually(lambda: followed.standing().behind_s == 0)
        health = httpx.get(f"{url}/healthz").json()
        assert (health["status"], health["release_id"], health["error"]) == ("ok", new.release_id, None)
        assert httpx.get(f"{url}/readyz").status_code == 200
    assert {*well} == {*health}


def test_an_erasure_that_is_not_served_yet_is_being_behind(published, followed, opening):
    opening.fail(MemoryError(), 10**9)
    release = followed.current.release
    again = release.manifest.model_copy(update={"revision": 2})
    release.storage.write("manifest.json", again.to_bytes())
    eventually(lambda: followed.standing().behind_s > 0)
    standing = followed.standing()
    assert standing.served == standing.live
    opening.left = 0
    eventually(lambda: followed.standing().behind_s == 0)


def test_a_watcher_that_hangs_or_is_dead_makes_the_probes_fail(published, opening, plane, listen):
    live = ReleaseWatcher(published.workspace, refresh_s=0.02)
    live.refresh()
    hanging, released = threading.Event(), threading.Event()
    settings = ServeConfig(heartbeat_limit_s=0.2)
    with listening(listen, live, settings, plane) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        really = live._look

        def hang():
            hanging.set()
            released.wait(60)
            return really()

        live._look = hang
        assert hanging.wait(60)
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 503)
        problem = httpx.get(f"{url}/readyz").json()
        assert live.current.release_id in problem["what"]
        assert "samespace_watcher_heartbeat_age_seconds" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/v1/release").status_code == 200, "what is open goes on answering"
        released.set()
        live._look = really
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        live.stop()  # as if the thread had died
        assert httpx.get(f"{url}/healthz").status_code == 503


def listening(listen, live, settings, plane):
    """A service of a live release; `start` of the application leaves a watcher that runs already alone."""
    return listen(create_app(live, settings, plane), settings)


def test_one_watcher_follows_however_often_it_is_started(followed):
    first = followed._watcher
    followed.start()
    assert followed._watcher is first


def test_what_the_old_release_held_is_let_go(published, followed):
    """The release before is kept for the explorer; after a swap it is another one, and its files may be removed."""
    followed.previous_catalogue(followed.current)
    assert followed._before is not None
    new = published.night(7)
    eventually(lambda: followed.current.release_id == new.release_id)
    assert followed._before is None
