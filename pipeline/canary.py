"""After a release went live: read a few rows back as consumers do, and go back by itself if they are wrong."""

from time import monotonic

from pipeline.config import Config
from pipeline.metrics_file import write_metrics_file
from retrieval.probe import search_candidates
from stores.errors import ConfigError, GateError, NotFoundError
from stores.features.probe import read_online
from stores.publish import promote, rollback
from stores.release import Release, StageReport
from stores.workspace import Workspace
from validation.canary import Readers
from validation.job import run_canary
from validation.report import write_report


def probe(workspace: Workspace, release: Release, config: Config) -> StageReport:
    """Check what consumers read of the live release; the report of the check.

    Raises GateError after going back to the release that was live before. Its features are written in
    full, because a store that served something else may hold anything.
    """
    began = monotonic()
    readers = Readers(
        online=lambda folder, ids: read_online(config.publish, release, folder, ids),
        search=lambda queries, k: search_candidates(release, queries, k),
    )
    report = run_canary(config.gate, release, readers)
    if failed := report.metrics["failed"]:
        live = _go_back(workspace, release, config)
        told = _noted(workspace, release, config, report)
        raise GateError(
            f"release {release.release_id} was taken back: what consumers read is not what was published\n  - "
            + "\n  - ".join(failed),
            where=write_report(release),
            fix=f"{live}; find what writes to the store besides samespace, then run the night again{told}",
        )
    return report.model_copy(update={"seconds": round(monotonic() - began, 3)})


def _noted(workspace: Workspace, release: Release, config: Config, report: StageReport) -> str:
    """Write the figures for Prometheus, if asked for; why they could not be written, to stand after a sentence."""
    if not config.night.metrics_file:
        return ""
    live = workspace.current().release_id == release.release_id
    try:
        write_metrics_file(config.night.metrics_file, release.manifest, live, [report])
    except ConfigError as error:
        return f"; {error.what} ({error.where})"
    return ""


def _go_back(workspace: Workspace, release: Release, config: Config) -> str:
    """Make the earlier release live again; what is live now, as a sentence."""
    try:
        rollback(workspace, config.publish, why="the canary failed", token=release.token)
    except NotFoundError:
        return "there is no earlier release to go back to, so this one stays live"
    current = workspace.current().release_id
    promote(workspace, current, config.publish, token=release.token)
    return f"{current} is live again"
