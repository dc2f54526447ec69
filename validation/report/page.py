"""The page: sections in the order in which a person asks."""

from importlib.resources import files

from stores.releases.release import Release
from validation.report import changes, distributions, run_statistics, title_map, verdict
from validation.report import run_statistics as run_statistics_module
from validation.report import verdict as verdict_module
from validation.report.data import ReportData
from validation.report.html import Html, el, join
from validation.report.release_state import HEADER

FILE = "report.html"
# Nothing may be loaded or sent, whatever a name in the catalogue says.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(release: Release) -> str:
    """Write `report.html` of a release, sealed or staged, and return its path or URI."""
    release.storage.write(FILE, page(ReportData.of(release)).encode())
    return f"{release.storage.uri}/{FILE}"


def refresh_report(release: Release) -> bool:
    """Write the header of a release's page again, as of now; False where there is no page.

    The rest of a page does not change once the release is sealed, and takes far longer to make.
    """
    if not release.storage.exists(FILE):
        return False
    text = release.storage.read(FILE).decode()
    parts = [Html(found[0]) for found in verdict.SECTION.finditer(text)]
    header = verdict.section(ReportData.of(release), parts)
    release.storage.write(FILE, HEADER.sub(lambda _: header, text, count=1).encode())
    return True


def page(facts: ReportData) -> str:
    """The whole page."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Release {facts.plan.release_id}"),
        el("style", _own("style.css")),
    )
    parts = [
        changes.section(facts),
        title_map.section(facts),
        run_statistics.quality_section(facts),
        distributions.section(facts),
        run_statistics_module.indexes(facts),
        verdict_module.checks_section(facts),
        run_statistics_module.stages(facts),
        run_statistics_module.refused(facts),
        run_statistics_module.trend_section(facts),
    ]
    there = [part for part in parts if part]
    body = [
        verdict.section(facts, there),
        el("main", there),
        el("footer", _versions(facts)),
        el("script", _own("script.js")),
    ]
    return join(Html("<!doctype html>\n"), el("html", head, el("body", body), lang="en"))


def _own(name: str) -> Html:
    return Html(files("validation.report").joinpath(name).read_text(encoding="utf-8"))


def _versions(facts: ReportData) -> str:
    versions = facts.release.manifest.versions if facts.release.sealed else {}
    return " · ".join(["samespace", *(f"{name} {version}" for name, version in versions.items())])
