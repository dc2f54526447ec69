"""A person's decision: a release that may not enter the live space becomes the first of a space of its own."""

from contextlib import closing

from pipeline.cluster import cluster
from pipeline.config import Config
from pipeline.nightly import story
from pipeline.telling import Teller
from stores.columns import TITLE_ID
from stores.errors import GateError
from stores.parquet import parquet_bytes
from stores.release import Release
from stores.reopening import Reopened, reopen

REFUSED = "refused"
CATALOGUE = "work/catalogue.parquet"


def complete(config: Config, release: Release, why: str, tell: Teller) -> None:
    """Finish a release that was held because alignment refused it, as the first of its own space.

    Its vectors are already canonical and unaligned, and its space has a number that no other has. The gates that
    were left out are run now. A release held for other reasons is left as it is. Raises GateError where a gate
    holds it again.
    """
    report = release.report("align")
    if release.manifest.status != "held" or report is None or report.metrics.get("outcome") != REFUSED:
        return
    versions = release.manifest.versions
    opened = reopen(release, "gate_vectors", align={"outcome": "new_space", "judged": REFUSED, "decided": why})
    _restore_catalogue(opened)
    reports, reasons = [], []
    with cluster(config.ray), closing(story(config, opened)) as stages:
        for name, stage in stages:
            reports.append(opened.once(name, stage))
            tell.stage(reports[-1])
            if reasons := list(reports[-1].metrics.get("failed") or []):
                break
    opened.seal(reasons, reports, versions)
    if reasons:
        raise GateError(
            f"release {release.release_id} is held, also as a space of its own: {'; '.join(reasons)}",
            fix="add --force --why TEXT to make it live nevertheless",
        )


def _restore_catalogue(opened: Reopened) -> None:
    """The night's catalogue went with its work folder: the published titles, which were all of it, stand in."""
    titles = opened.table("titles")
    opened.storage.write(CATALOGUE, parquet_bytes(titles.select([TITLE_ID, "name", "plays"])))
