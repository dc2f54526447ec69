"""Great Expectations' pages of a release: the same answers as the gate's, and nothing that asks another host."""

import re
from html import unescape
from pathlib import Path

import pytest

from stores.errors import NotFoundError
from validation.checks import shown
from validation.config import GateConfig
from validation.data_docs import write_data_docs
from validation.job import run_index, run_input, run_vectors

EVIL = "<img src=https://example.org/x>"
LIMIT = 400_000


def spoilt(content):
    content["members"][3] = float("nan")
    content["names"][5], content["titles"][5] = EVIL, -content["titles"][5]
    content["reports"]["align"].update(heldout_cosine_p50=None)


@pytest.fixture(scope="module")
def release(live):
    """A judged night with a failure, a figure that was not measured, and a name that tries to be markup."""
    found = live.stage(spoilt)
    for name, stage in (("gate_input", run_input), ("gate_vectors", run_vectors), ("gate_index", run_index)):
        found.run_stage(name, lambda s=stage: s(GateConfig(), found))
    return found


@pytest.fixture(scope="module")
def pages(release):
    """The pages by name."""
    return {Path(path).stem: Path(path).read_text(encoding="utf-8") for path in write_data_docs(release)}


def test_there_is_a_page_for_each_gate_beside_the_report(release, pages):
    assert list(pages) == ["gate_input", "gate_vectors", "gate_index"]
    assert sorted(release.storage.files("data_docs")) == sorted(f"data_docs/{name}.html" for name in pages)
    assert sum(len(text.encode()) for text in pages.values()) < LIMIT


def test_the_pages_give_the_gates_answers(release, pages):
    for name, text in pages.items():
        checks = release.stage_report(name).metrics["checks"]
        failed = sum(not check["passed"] for check in checks)
        whole = failed == 0  # the page's own head has a mark too
        assert text.count('<i class="fas fa-check-circle') == len(checks) - failed + whole
        for check in checks:
            assert f"{check['expectation']}: {check['allowed']}" in unescape(text)
            assert ("not measured" if check["observed"] is None else shown(check["observed"])) in unescape(text)


def test_nothing_on_a_page_can_ask_another_host(pages):
    for text in pages.values():
        assert not re.search(r"https?://|<script|<img|<link|url\(|@import|\son[a-z]+=", text)
        assert "default-src 'none'" in unescape(text)
        links = re.findall(r'href="([^"#]+)"', text)
        assert set(links) == {"../report.html", *(f"{name}.html" for name in pages)}


def test_a_release_whose_limits_were_not_kept_is_named(live):
    release = live.stage()
    old = run_index(GateConfig(), release)
    for check in old.metrics["checks"]:
        del check["kind"], check["minimum"], check["maximum"], check["one_of"]
    release.run_stage("gate_index", lambda: old)
    with pytest.raises(NotFoundError, match="judged by an earlier version"):
        write_data_docs(release)


def test_a_night_that_no_gate_judged_is_named(nights):
    with pytest.raises(NotFoundError, match="no gate has judged"):
        write_data_docs(nights.stage())
