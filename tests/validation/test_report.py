import json
import re
import sys
from html import unescape
from html.parser import HTMLParser

import pytest

from validation.config import GateConfig
from validation.job import run_vectors
from validation.report import write_report
from validation.report.html import el, embedded, table

EVIL = "<script>alert(1)</script>"
LIMIT = 5_000_000


class Page(HTMLParser):
    """Tags that are open at the end, ids, and everything that could make a browser ask for something."""

    VOID = frozenset({"meta", "input", "br", "line", "path", "polyline", "circle"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.asked, self.scripts = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.asked += [
            name
            for name in ("src", "href", "srcset", "action", "poster")
            if name in found and not found[name].startswith("#")
        ]
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(release):
    path = write_report(release)
    assert path.endswith(f"{release.release_id}/report.html")
    return release.storage.read("report.html").decode()


def evil(content):
    content["names"][5] = EVIL
    content["titles"][5] *= -1
    content["plays"][5] = 1_000


@pytest.fixture
def text(live):
    return read(live.stage(evil))


def test_a_name_never_becomes_markup(text):
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Space &lt;opera&gt;" in text or "Space \\u003copera" in text
    data = re.search(r'<script type="application/json" id="titles">(.*?)</script>', text, re.S).group(1)
    assert EVIL in json.loads(data)["name"]


def test_the_page_is_well_formed_and_asks_for_nothing(text):
    page = Page(text)
    assert page.open == []
    assert page.asked == []
    assert page.scripts == 2
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|//[a-z]+\.", text)
    assert "default-src 'none'" in unescape(text)


def test_the_page_says_what_moved_from_where_to_where(live):
    release = live.stage(evil)
    text = read(release)
    moved = text[text.index("Titles that moved most") :]
    first = moved[moved.index("<tbody>") : moved.index("</tr>", moved.index("<tbody>"))]
    assert "&lt;script&gt;" in first
    assert len(re.findall(r"Title \d+", first)) == 10


def test_a_title_that_hardly_anybody_played_is_listed_where_it_is_the_one_that_moved(live):
    def moved(content):
        content["plays"][7], content["titles"][7] = 0, -content["titles"][7]

    text = read(live.stage(moved))
    listed = text[text.index("Titles that moved most") :]
    assert "Title 7<" in listed[listed.index("<tbody>") : listed.index("</tr>", listed.index("<tbody>"))]


def test_the_page_says_how_much_of_each_segment_moved(live):
    release = live.stage()
    release.run_stage("gate_vectors", lambda: run_vectors(GateConfig(), release))
    text = read(release)
    table = text[text.index("By genre and popularity") :].partition("</table>")[0]
    for segment in ("least played third", "Drama", "Space &lt;opera&gt;"):
        assert segment in table


def test_the_verdict_comes_first_with_its_reasons(nights):
    nights.seal(nights.stage())

    def broken(content):
        content["titles"][:] = content["titles"][0]

    held = nights.seal(nights.stage(broken))
    text = read(held)
    assert held.manifest.status == "held"
    assert text.index("Held back") < text.index("Not met: titles span the space") < text.index("What changed")


def test_a_first_and_an_unfinished_night_have_a_report(nights):
    first = nights.stage()
    assert "Not judged" in read(first)
    assert "first release" in read(nights.seal(first))


def test_a_night_that_was_held_before_there_were_vectors_has_a_report(nights):
    nights.seal(nights.stage())
    release = nights.stage()
    for folder in ("members", "titles", "index"):
        release.storage.delete_tree(folder)
    assert "What changed" in read(release)


def test_a_new_space_is_not_compared(live):
    def announced(content):
        content["reports"]["align"].update(outcome="new_space", space_id="2")

    assert "another space" in read(live.stage(announced))


def test_the_trend_shows_held_nights_too(nights):
    nights.seal(nights.stage())
    nights.seal(nights.stage(lambda content: content["reports"]["histories"].update(members=0)))
    text = read(nights.releases[-1])
    trend = text[text.index("<h2>Trend") :]
    assert ">held<" in trend
    assert ">ready<" in trend


@pytest.mark.slow
def test_ten_thousand_titles_stay_small(nights, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[type(nights).__module__], "TITLES", 10_000)
    nights = type(nights)(tmp_path / "large")
    long = {"edit": lambda content: content.update(names=[f"{'A rather long name ' * 3}{i}" for i in range(10_000)])}
    nights.seal(nights.stage(**long))
    assert len(read(nights.seal(nights.stage(**long))).encode()) < LIMIT


def test_text_is_escaped_wherever_it_enters():
    nasty = "\"'><b>&"
    made = table(["a", nasty], [[nasty, el("i", nasty, title=nasty)]], label=nasty)
    assert nasty not in made
    assert "<b>" not in made
    assert "<" not in embedded("x", {"a": nasty})[len('<script type="application/json" id="x">') : -len("</script>")]


def test_the_model_is_shown_beside_the_live_one(live):
    against = {
        "current": {"both": 250, "model": 60, "other": 70, "neither": 1620},
        "popular_7_days": {"both": 5, "model": 300, "other": 10, "neither": 1685},
    }
    metrics = {"questions": 2000, "against": against, "slices": {"new_members": against}}

    def compared(content):
        content["reports"]["compare_models"] = metrics

    release = live.stage(compared)
    release.run_stage("gate_vectors", lambda: run_vectors(GateConfig(), release))
    text = read(release)
    model = text[text.index("<h2>The model") :]
    assert "0.1550" in model
    assert "0.1600" in model
    assert "new members" in model


def test_a_release_that_was_taken_back_says_so_first(nights):
    release = nights.seal(nights.stage())
    release.add_event("readback", passed=False, failed=["members read from Feast are the published ones: …"])
    text = read(release)
    assert text.index("Taken back") < text.index("members read from Feast") < text.index("What changed")


def test_the_page_links_to_its_sections(text):
    page = Page(text)
    linked = re.findall(r'<a href="#([^"]+)">', text)
    assert len(linked) >= 3
    assert set(linked) <= set(page.ids)
