"""Hostile ids, names, genres and countries through whole nights, to the terminal, the report and the explorer."""

import io
import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from stores.releases.workspace import Workspace
from tests.pipeline.hostile_lake import COUNTRIES, IDS, NAMES, make_hostile, named

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(lake: Path, models: Path, samespace: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose workspace has two nights of a hostile lake, run with a model trained on it."""
    folder = tmp_path_factory.mktemp("hostile")
    make_hostile(lake, folder / "lake")
    samespace("train", "--lake", "lake", cwd=folder)
    first = samespace("nightly", "--lake", "lake", cwd=folder)
    assert first["status"] == "ready", first["reasons"]
    second = samespace("nightly", "--lake", "lake", "--full", cwd=folder)
    assert second["status"] == "ready", second["reasons"]
    return folder


def told(place: Path, *words: str, expect: int = 0) -> str:
    """What a command writes for a person, on both streams."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(place), redirect_stdout(out), redirect_stderr(err):
        code = main([words[0], "--workspace", "ws", *words[1:]])
    assert code == expect, err.getvalue()
    return out.getvalue() + err.getvalue()


def steers(text: str) -> set[str]:
    """Characters that a terminal would obey, line breaks of our own left out."""
    return {one for one in text if unicodedata.category(one) in STEERING and one not in "\n\u200c\u200d"}


def test_everybody_is_published_under_the_id_that_they_have(place: Path) -> None:
    release = Workspace.open(str(place / "ws")).current()
    titles, members = release.titles().to_table(), release.members().to_table(columns=["member_id"])
    assert {named(number) for number in range(1, 121)} == set(titles["title_id"].to_pylist())
    active = pq.read_table(place / "lake" / "interactions", columns=["member_id"], partitioning=None)["member_id"]
    assert set(active.to_pylist()) == set(members["member_id"].to_pylist())
    assert set(IDS) <= set(active.to_pylist())
    assert dict(zip(titles["title_id"].to_pylist(), titles["name"].to_pylist(), strict=True))[IDS[0]] == NAMES[0]


@pytest.mark.parametrize("row", range(len(IDS)))
def test_each_id_finds_its_own_on_the_command_line_and_nothing_steers_the_terminal(place: Path, row: int) -> None:
    for verb in ("candidates", "similar"):
        text = told(place, verb, "--", IDS[row]) if IDS[row].startswith("-") else told(place, verb, IDS[row])
        assert steers(text) == set()
        assert len(text.splitlines()) == 11, "one line for each title and a head"
        assert max(map(len, text.splitlines())) < 3_500


@pytest.mark.parametrize(
    "words",
    [
        ["releases"],
        ["releases", "show"],
        ["dead-letter"],
        ["index", "--explain"],
        ["doctor", "--lake", "lake"],
        ["candidates", "nobody\x1b[2J\u202e"],
        ["similar", "\x1b[2J no such \u202e"],
        ["similar", "title"],
        ["candidates", "id 100", "--country", "\x1b[31mXX\u202e"],
        ["report"],
    ],
)
def test_no_command_steers_the_terminal(place: Path, words: list[str]) -> None:
    wrong = ("nobody" in words[-1], "no such" in words[-1], words[-1] == "title", "XX" in words[-1])
    text = told(place, *words, expect=2 if any(wrong) else 0)
    assert steers(text) == set()


def test_a_comparison_of_releases_does_not_either(place: Path) -> None:
    before, after = (release.release_id for release in Workspace.open(str(place / "ws")).releases())
    assert steers(told(place, "diff", before, after)) == set()


@pytest.mark.parametrize("country", [country for country in COUNTRIES.values() if country.strip()])
def test_hostile_countries_filter_like_any(place: Path, country: str) -> None:
    assert len(told(place, "candidates", "id 100", "--country", country).splitlines()) == 11


def test_json_has_the_ids_as_they_are(place: Path) -> None:
    for name in IDS:
        words = ["candidates", *(["--json", "--", name] if name.startswith("-") else [name, "--json"])]
        (line,) = told(place, *words).splitlines()
        assert steers(line) == set()
        assert json.loads(line)["member_id"] == name


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright from PyPI")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def visit(browser: Any, address: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page with all that it said and asked for; a dialog, which only a script of a name could open, is said too."""
    said: list[str] = []
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page, said, asked
    context.close()


def shown(page: Any) -> str:
    """All text of a page, labels included."""
    labels = "[...document.querySelectorAll('[aria-label],[title]')].map((one) => one.ariaLabel + one.title).join(' ')"
    return str(page.evaluate(f"document.body.innerText + {labels}"))


def plain_markup(page: Any) -> bool:
    """Whether no name became an element or left one without words."""
    names = "[...document.querySelectorAll('a.name, a.chip, #legend button, #choices li span')]"
    silent = page.evaluate(f"{names}.filter((one) => !one.textContent.trim()).length")
    made = page.evaluate("document.querySelectorAll('img, b[onerror], svg[onload], body i[onload]').length")
    scripts = page.evaluate("[...document.scripts].filter((one) => /alert/.test(one.text) && !one.type).length")
    return (silent, made, scripts) == (0, 0, 0)


@pytest.mark.parametrize("pages", ["report", "data_docs"])
def test_the_report_shows_hostile_names_as_text(place: Path, browser: Any, pages: str) -> None:
    if pages == "data_docs":
        told(place, "report", "--data-docs")
    release = Workspace.open(str(place / "ws")).current()
    folder = Path(release.storage.local())
    for path in [folder / "report.html"] if pages == "report" else sorted((folder / "data_docs").glob("*.html")):
        with visit(browser, path.as_uri()) as (page, said, asked):
            assert said == []
            assert asked == [path.as_uri()]
            text = shown(page)
            assert steers(text) - {"\t", "\xad"} == set()
            assert plain_markup(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            if pages == "report":
                assert path.stat().st_size < 2_000_000, "a name of 60,000 characters is cut"
                page.fill("#find", "script")
                assert "script" in page.text_content("#tip")


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """The service of the workspace, in this process."""
    import threading
    import time

    pytest.importorskip("uvicorn", reason="the service's tests need the extra [serve]")
    from retrieval.service import ReleaseWatcher, ServeConfig, create_app, server
    from validation.report import plane_of

    live = ReleaseWatcher(Workspace.open(str(place / "ws")))
    running = server(create_app(live, ServeConfig(), plane_of), ServeConfig(), port=0, log_level="critical")
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


def test_the_explorer_shows_every_hostile_title_and_member_as_text(browser: Any, address: str) -> None:
    unreachable = {".", ".."}  # a browser resolves them in a path
    with visit(browser, address) as (page, said, asked):
        page.wait_for_selector("#compare li")
        page.wait_for_selector("#legend button")
        assert plain_markup(page)
        for name in (*IDS, "id 100"):
            page.goto(f"{address}/#/title/{quote(name, safe='')}")
            page.reload()
            if name in unreachable:
                page.wait_for_selector("#problem:not([hidden])")
                assert "cannot ask for the id" in page.text_content("#problem")
                continue
            page.wait_for_selector("#compare li")
            page.wait_for_selector("#legend button")
            assert page.text_content("#problem") == ""
            assert plain_markup(page)
            assert steers(shown(page)) == set()
            page.goto(f"{address}/#/member/{quote(name, safe='')}")
            page.wait_for_selector("#member .side.now li")
            assert page.input_value("#member-id").strip() == _typed(name)
            assert plain_markup(page)
            assert steers(shown(page)) == set()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name[:40]
        assert said == []
        assert {url.split("/", 3)[2] for url in asked} == {address.removeprefix("http://")}


def _typed(name: str) -> str:
    """A name as a field of one line holds it."""
    return name.replace("\r", "").replace("\n", "").strip()


def test_typing_and_pointing_show_text_only(browser: Any, address: str) -> None:
    with visit(browser, f"{address}/#/title/%") as (page, said, _):
        page.wait_for_selector("#legend button")
        page.wait_for_selector("#problem:not([hidden])")
        for typed in ("<", "alert", "\u202e", "id", "%", "\u05e2"):
            page.fill("#ask", typed)
            page.wait_for_selector("#choices li")
            assert plain_markup(page)
            assert steers(page.inner_text("#choices")) == set()
        page.focus("#map")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp") * 6:
            page.keyboard.press(key)
            assert steers(page.text_content("#tip") or "") == set()
        assert said == []
