"""A small published workspace with two nights, the service in this process, and one that really listens."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the service's tests need the extra [serve]")

from retrieval.config import RetrievalConfig
from retrieval.job import run
from retrieval.service import ReleaseWatcher, ServeConfig, create_app, server
from stores.releases.release import Release
from stores.releases.workspace import Workspace

TITLES, MEMBERS, DIM = 60, 40, 6
GENRES = ("drama", "comedy", "crime", "science fiction")
COUNTRIES = (None, [], ["GB"], ["gb", "US"], ["US"])
MATURITY = (None, 7, 12, 18)


def _plane(release: Release) -> dict[str, Any]:
    """A map for tests: the first two coordinates."""
    table = release.titles().to_table()
    vectors = np.array(table["embedding"].to_pylist())
    names = [name or "?" for name in table["name"].to_pylist()]
    axes = {"x": np.tanh(vectors[:, 0]).tolist(), "y": np.tanh(vectors[:, 1]).tolist()}
    genre = [row % len(GENRES) for row in range(len(names))]
    return {"title_id": table["title_id"].to_pylist(), "name": names, **axes, "genre": genre, "legend": [*GENRES, "o"]}


class Published:
    """A workspace whose pointer the test moves."""

    def __init__(self, make: Callable[..., Release]) -> None:
        self.make, self.previous = make, None
        self.workspace: Workspace | None = None

    def night(self, seed: int, text: bool = False, space_id: str = "1") -> Release:
        rng = np.random.default_rng(seed)
        titles, members = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (TITLES, MEMBERS))
        release = self.make(titles, members, text=text, space_id=space_id, **catalogue())
        run(RetrievalConfig(), release)
        plan = release.plan.model_copy(update={"previous_release": self.previous})
        release.storage.write("plan.json", plan.model_dump_json().encode())
        sealed = Release(release.workspace_uri, release.release_id)
        sealed.seal([], [], {})
        self.previous = sealed.release_id
        self.workspace = Workspace.open(release.workspace_uri)
        self.point(sealed)
        return sealed

    def point(self, release: Release) -> None:
        pointer = {
            "release_id": release.release_id,
            "space_id": release.space_id,
            "promoted_at": "2026-07-21T02:00:00Z",
        }
        self.workspace.storage.write("current.json", json.dumps(pointer).encode())


def catalogue() -> dict[str, Any]:
    names = [f"Title {row}" for row in range(TITLES)]
    names[3], names[4] = "<img src=x onerror=alert(1)>", None
    return {
        "name": names,
        "genres": [[GENRES[row % 4], GENRES[row // 4 % 4]][: 1 + row % 2] for row in range(TITLES)],
        "available_countries": [COUNTRIES[row % 5] for row in range(TITLES)],
        "maturity": [MATURITY[row % 4] for row in range(TITLES)],
        "plays": [1000 - row for row in range(TITLES)],
    }


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """Where the first test leaves a copy of its workspace for the others."""
    return tmp_path_factory.mktemp("template") / "w"


@pytest.fixture
def published(make_release, template, tmp_path) -> Published:
    """A workspace of two nights, the second live."""
    found = Published(make_release)
    if template.exists():
        shutil.copytree(template, tmp_path / "w")
        found.workspace = Workspace.open(str(tmp_path / "w"))
        found.previous = found.workspace.current().release_id
        return found
    found.night(1)
    found.night(2)
    shutil.copytree(tmp_path / "w", template)
    return found


@pytest.fixture
def live(published) -> ReleaseWatcher:
    live = ReleaseWatcher(published.workspace, refresh_s=0.05)
    live.refresh()
    return live


@pytest.fixture
def app(live) -> Any:
    return create_app(live, ServeConfig(), _plane)


@contextmanager
def listening(app: Any, settings: ServeConfig | None = None) -> Iterator[str]:
    """The application on a free port of loopback, for as long as the block runs."""
    running = server(app, settings or ServeConfig(), port=0, log_level="critical")
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def address(app) -> Iterator[str]:
    with listening(app) as url:
        yield url


@pytest.fixture
def plane() -> Callable[[Release], dict[str, Any]]:
    return _plane


@pytest.fixture
def service_catalogue() -> dict[str, Any]:
    return catalogue()


@pytest.fixture
def listen() -> Any:
    return listening
