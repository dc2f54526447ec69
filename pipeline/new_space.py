"""Open a new space by a person's decision: a release that may not enter the live space becomes the first of its own."""

from contextlib import closing

from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.nightly import night_stages
from pipeline.ray_cluster import ray_cluster
from stores.errors import GateError
from stores.files.parquet import parquet_bytes
from stores.releases.release import Release
from stores.releases.reopened_release import ReopenedRelease, reopen
from stores.schema import TITLE_ID

REFUSED_OUTCOME = "refused"
CATALOGUE = "work/catalogue.parquet"


def open_new_space(config: Config, release: Release, why: str, tell: ConsoleReporter) -> None:
    """Finish a release that was held because alignment refused it, as the first of its own space.

    Its vectors are already canonical and unaligned, and its space has a number that no other has. The gates that
    were left out are run now. A release held for other reasons is left as it is. Raises GateError where a gate
    holds it again.
    """
    report = release.stage_report("align")
    if release.manifest.status != "held" or report is None or report.metrics.get("outcome") != REFUSED_OUTCOME:
        return
    versions = release.manifest.versions
    opened = reopen(release, "gate_vectors", align={"outcome": "new_space", "judged": REFUSED_OUTCOME, "decided": why})
    _restore_catalogue(opened)
    reports, reasons = [], []
    with ray_cluster(config.ray), closing(night_stages(config, opened)) as stages:
        for name, stage in stages:
            reports.append(opened.run_stage(name, stage))
            tell.stage_finished(reports[-1])
            if reasons := list(reports[-1].metrics.get("failed") or []):
                break
    opened.seal(reasons, reports, versions)
    if reasons:
        raise GateError(
            f"release {release.release_id} is held, also as a space of its own: {'; '.join(reasons)}",
            fix="add --force --why TEXT to make it live nevertheless",
        )


def _restore_catalogue(opened: ReopenedRelease) -> None:
    """The night's catalogue went with its work folder: the published titles, which were all of it, stand in."""
    titles = opened.table("titles")
    opened.storage.write(CATALOGUE, parquet_bytes(titles.select([TITLE_ID, "name", "plays"])))
