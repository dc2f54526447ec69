"""Great Expectations' own pages (Data Docs) of a release's checks, one for each gate, made to work offline.

The pages that Great Expectations makes load Bootstrap, jQuery and fonts from other hosts, and its front page stays
empty without them. So the scripts and links go, a small style of our own comes, and each page links to the others.
"""

import re
from importlib.resources import files
from typing import Any

from stores.errors import NotFoundError
from stores.releases.release import Release
from validation.checks import GateVerdict, shown
from validation.gx_gate import answered, one_row, quiet
from validation.report.data import ReportData
from validation.report.html import Html, el, join

FOLDER = "data_docs"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OUTSIDE = (
    re.compile(r"<script\b.*?</script>", re.S),
    re.compile(r"<style\b.*?</style>", re.S),
    re.compile(r"<link\b[^>]*>", re.S),
    re.compile(r"<img\b[^>]*>", re.S),
    re.compile(r"<footer\b.*?</footer>", re.S),
    re.compile(r'<nav class="navbar navbar-expand.*?</nav>\s*</div>\s*</nav>', re.S),
    re.compile(r"<title>.*?</title>", re.S),
    re.compile(r"""\s(?:on[a-z]+|data-toggle)=(?:"[^"]*"|'[^']*')"""),
)
"""What asks other hosts for something, or needs a script to be of use."""
_LINK = re.compile(r"<a\b([^>]*)\shref=\"(?!#)[^\"]*\"([^>]*)>", re.S)


def write_data_docs(release: Release) -> list[str]:
    """Write `data_docs/gate_<name>.html` of a release for each gate that judged; where they are, in order.

    The same figures are judged again by the same expectations. Raises NotFoundError where no gate judged yet, or
    one did so before checks kept their limits.
    """
    verdicts = ReportData.of(release).verdicts
    if not verdicts:
        fix = "finish the night with samespace nightly"
        raise NotFoundError(f"no gate has judged {release.release_id} yet", where=release.storage.uri, fix=fix)
    if any(not check.kind for verdict in verdicts for check in verdict.checks):
        what = f"{release.release_id} was judged by an earlier version, which did not keep the limits of its checks"
        raise NotFoundError(what, where=release.storage.uri, fix="choose a later release")
    names = [verdict.name for verdict in verdicts]
    for verdict in verdicts:
        text = offline(_page(verdict), f"{verdict.name} of {release.release_id}", _links(names, verdict.name))
        release.storage.write(_path(verdict.name), text.encode())
    return [f"{release.storage.uri}/{_path(name)}" for name in names]


def _path(name: str) -> str:
    return f"{FOLDER}/gate_{name}.html"


def _page(verdict: GateVerdict) -> str:
    """The page as Great Expectations makes it."""
    expectations = [check.asked for check in verdict.checks]
    frame = one_row({check.column: check.observed for check in verdict.checks}, expectations)
    result = answered(verdict.name, frame, expectations)
    for answer in result.results:  # of a figure that is as expected, the page would show no more than that
        observed = verdict.checks[answer.expectation_config.meta["at"]].observed
        answer.result["observed_value"] = "not measured" if observed is None else shown(observed)
    with quiet():
        from great_expectations.render.renderer import ValidationResultsPageRenderer
        from great_expectations.render.view import DefaultJinjaPageView

        page: Any = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
    return str(page)


def offline(page: str, title: str, links: Html) -> str:
    """A page of Great Expectations without anything that a browser would ask another host for."""
    for found in _OUTSIDE:
        page = found.sub("", page)
    page = _LINK.sub(r"<a\1\2>", page)
    style = files("validation").joinpath("data_docs.css").read_text(encoding="utf-8")
    head = join(
        el("title", title),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="color-scheme", content="light dark"),
        el("style", Html(style)),
    )
    page = page.replace("</head>", f"{head}</head>", 1).replace("<html>", '<html lang="en">', 1)
    return page.replace("<body>", f"<body>{links}", 1)


def _links(names: list[str], here: str) -> Html:
    """Back to the report, and to the pages of the other gates."""
    others = [
        el("a", f"{name} gate", href=f"gate_{name}.html", aria_current="page" if name == here else None)
        for name in names
    ]
    return el("nav", el("a", "Report", href="../report.html"), others, class_="pages", aria_label="pages")
