"""The report in a real browser: it asks for nothing, complains of nothing, fits, and can be used by everyone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from validation.config import GateConfig
from validation.data_docs import write_data_docs
from validation.job import run_index, run_input, run_vectors
from validation.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright from PyPI")
axe = pytest.importorskip("axe_playwright_python", reason="the browser tests need axe-playwright-python from PyPI")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield opened
        opened.close()


def evil(content):
    content["names"][5] = "<img src=x onerror=alert(1)>"
    content["titles"][5] *= -1
    content["plays"][5] = 1_000


@pytest.fixture(scope="module")
def report(live) -> Path:
    """The report of a judged night with a warning, a moved title and a name that tries to be markup; data docs too."""
    release = live.stage(evil)
    for name, stage in (("gate_input", run_input), ("gate_vectors", run_vectors), ("gate_index", run_index)):
        release.run_stage(name, lambda s=stage: s(GateConfig(), release))
    write_data_docs(release)
    return Path(write_report(release))


class Visit:
    """A page opened at a width and in a colour scheme, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str, strict: bool = True) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        # axe is injected as a script of its own, which the page's policy rightly refuses.
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=not strict)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_quiet_alone_and_fits(browser, report, width, scheme):
    with Visit(browser, report, width, scheme) as visit:
        assert visit.said == []
        assert visit.asked == [report.as_uri()]
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.page.evaluate("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_has_no_serious_accessibility_violation(browser, report, width, scheme):
    with Visit(browser, report, width, scheme, strict=False) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        visit.page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = visit.page.evaluate("axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_data_docs_are_quiet_alone_and_lead_back_to_the_report(browser, report, width, scheme):
    page = report.parent / "data_docs" / "gate_vectors.html"
    with Visit(browser, page, width, scheme, strict=False) as visit:
        assert visit.said == []
        assert visit.asked == [page.as_uri()]
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = visit.page.evaluate("axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []
        visit.page.click("text=Report")
        assert visit.page.url == report.as_uri()


def test_the_map_names_a_title_that_is_pointed_at_and_finds_one_by_name(browser, report):
    with Visit(browser, report, 1280, "light") as visit:
        page = visit.page
        page.fill("#find", "title 11")
        assert page.text_content("#tip").startswith("Title 11 ·")
        page.fill("#find", "")
        box = page.locator("#map").bounding_box()
        page.evaluate("document.getElementById('map').scrollIntoView()")
        box = page.locator("#map").bounding_box()
        for step in range(400):
            page.mouse.move(box["x"] + box["width"] * (step % 20) / 20, box["y"] + box["height"] * (step // 20) / 20)
            if page.evaluate("document.getElementById('tip').style.display") == "block":
                break
        assert "Title" in page.text_content("#tip")


def test_a_genre_can_be_hidden_from_the_keyboard(browser, report):
    with Visit(browser, report, 1280, "light") as visit:
        button = visit.page.locator("#legend button").first
        button.focus()
        visit.page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "false"
        assert visit.said == []
