"""The explorer in a real browser: search, compare, map, a member; with a keyboard alone, and on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright from PyPI")
axe = pytest.importorskip("axe_playwright_python", reason="the browser tests need axe-playwright-python from PyPI")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield opened
        opened.close()


class Visit:
    """The page at a width and in a colour scheme, with everything that it said and asked for."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light", path: str = "/") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        # axe is injected as a script of its own, which the page's policy rightly refuses.
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, has_touch=width < 500
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address + path)
        self.page.wait_for_selector("#compare li")
        self.page.wait_for_selector("#legend button")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def beside(self) -> str:
        return self.page.text_content("#answer-title")


def wait_for(page: Any, name: str) -> None:
    page.wait_for_function("name => document.getElementById('answer-title').textContent === `Beside ${name}`", arg=name)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")])
def test_the_page_is_quiet_fits_asks_only_us_and_is_for_everyone(browser, address, width, scheme):
    with Visit(browser, address, width, scheme, "/#/member/14") as visit:
        visit.page.wait_for_selector("#member li")
        assert visit.said == []
        assert {url.split("/", 3)[2] for url in visit.asked} == {address.removeprefix("http://")}
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.page.evaluate("document.querySelectorAll('img').length") == 0
        visit.page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = visit.page.evaluate("axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS] == []


def test_a_title_that_is_typed_is_compared_with_the_night_before(browser, address, live):
    opened, before = live.current, live.previous_catalogue(live.current)
    with Visit(browser, address) as visit:
        page = visit.page
        page.fill("#ask", "title 17")
        page.click("#choices li >> text=Title 17")
        wait_for(page, "Title 17")
        row = opened.title("Title 17")
        for side, catalogue in (("now", opened), ("before", before)):
            shown = page.locator(f".side.{side} .name").all_text_contents()
            expected = [
                catalogue.names[found] or f"title {catalogue.ids[found]}" for found, _ in catalogue.similar(row, 12)
            ]
            assert shown == expected
        assert page.url.endswith("#/title/170")
        common = {found for found, _ in opened.similar(row, 12)} & {found for found, _ in before.similar(row, 12)}
        assert page.locator(".side.now .tag").count() == 12 - len(common)
        assert "have both" in page.text_content(".side.now .why")
        assert visit.said == []


def test_the_back_button_goes_back_to_the_title_before(browser, address):
    with Visit(browser, address, path="/#/title/20") as visit:
        visit.page.locator(".side.now .name").first.click()
        visit.page.wait_for_function("!document.getElementById('answer-title').textContent.includes('Title 2')")
        visit.page.go_back()
        wait_for(visit.page, "Title 2")


def test_everything_can_be_done_with_the_keyboard_alone(browser, address):
    with Visit(browser, address) as visit:
        page, press = visit.page, visit.page.keyboard.press
        press("/")
        page.keyboard.type("title 21")
        page.wait_for_selector("#choices li >> text=Title 21")
        press("ArrowDown")
        assert page.get_attribute("#ask", "aria-activedescendant") == "choice-0"
        press("Enter")
        wait_for(page, "Title 21")
        press("Tab")
        first = page.evaluate("document.activeElement.textContent")
        press("Enter")
        wait_for(page, first)
        page.focus("#map")
        press("ArrowRight")
        pointed = page.text_content("#tip").split(" · ")[0]
        press("+")
        press("Enter")
        page.wait_for_function(
            "name => document.getElementById('answer-title').textContent === `Beside ${name}`", arg=pointed
        )
        page.focus("#member-id")
        page.keyboard.type("14")
        press("Enter")
        page.wait_for_selector("#member .side.now li")
        assert page.locator("#member .side.before li").count() == 4
        page.locator("#legend button").first.focus()
        press("Space")
        assert page.locator("#legend button").first.get_attribute("aria-pressed") == "false"
        assert visit.said == []


def test_the_map_names_what_is_pointed_at_and_opens_it(browser, address):
    with Visit(browser, address) as visit:
        page = visit.page
        page.locator("#map").scroll_into_view_if_needed()
        page.click("#closer")
        box = page.locator("#map").bounding_box()
        for step in range(900):
            page.mouse.move(box["x"] + box["width"] * (step % 30) / 30, box["y"] + box["height"] * (step // 30) / 30)
            if page.evaluate("document.getElementById('tip').style.display") == "block":
                break
        name = page.text_content("#tip").split(" · ")[0]
        page.mouse.down()
        page.mouse.up()
        wait_for(page, name)
        before = visit.beside()
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.down()
        page.mouse.move(box["x"] + 320, box["y"] + 260, steps=4)
        page.mouse.up()
        assert visit.beside() == before, "dragging wanders, it opens nothing"


def test_a_name_that_tries_to_be_markup_is_text(browser, address):
    with Visit(browser, address, path="/#/title/30") as visit:
        assert "<img src=x" in visit.beside()
        assert visit.page.evaluate("document.querySelectorAll('img').length") == 0
        assert visit.said == []


def test_what_cannot_be_shown_is_said(browser, address):
    with Visit(browser, address) as visit:
        visit.page.fill("#member-id", "999")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("#problem:not([hidden])")
        assert "no member 999" in visit.page.text_content("#problem")


def test_a_service_with_a_token_asks_for_it_once(browser, live, plane, listen):
    from retrieval.service import ServeConfig, create_app

    with listen(create_app(live, ServeConfig(), plane, "secret")) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#gate[open]")
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#compare li")
        page.wait_for_selector("#legend button")
        context.close()
