"""Run one night: its stages in order, publishing, and the readback of what was published."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from time import monotonic

import alignment.job
import alignment.previous_spaces
import embeddings.histories.job
import embeddings.model_comparison
import pipeline.optional_features
import retrieval.batch_candidates
import retrieval.job
import stores.publishing.publish
import validation.job
from embeddings.encode.job import EncodeJob, worker_spec
from pipeline.config import Config, FeaturesConfig
from pipeline.console import ConsoleReporter, write_night_report
from pipeline.forecast import Forecast
from pipeline.interruption import raise_if_stopped
from pipeline.model_training import model_for_tonight
from pipeline.prometheus_textfile import write_metrics_file
from pipeline.ray_cluster import at_hand, ray_cluster
from pipeline.run_plan import NightRequest, RunInputs, begin_night, require_same_ids, stage_rejected_rows
from pipeline.vector_reuse import reuse_from_live
from retrieval.release_reader import search_candidates
from stores.errors import ConfigError, ContractError, GateError, NotFoundError
from stores.feast.online_store import read_online_rows
from stores.feast.ownership import require_ownership_early
from stores.feast.repository import FeatureRepository
from stores.lake.contract import Lake
from stores.publishing.command_intent import close_intent
from stores.publishing.publish import promote, rollback
from stores.ray_capacity import Capacity
from stores.releases.lease import lease
from stores.releases.release import Manifest, Release, StageReport
from stores.releases.workspace import Workspace
from validation.job import run_canary
from validation.readback import ConsumerReaders
from validation.report import write_report


def verify_readback(workspace: Workspace, release: Release, config: Config) -> StageReport:
    """Check what consumers read of the live release; the report of the check.

    Raises GateError after going back to the release that was live before. Its features are written in
    full, because a store that served something else may hold anything.
    """
    began = monotonic()
    readers = ConsumerReaders(
        online=lambda folder, ids: read_online_rows(config.publish, release, folder, ids),
        search=lambda queries, k: search_candidates(release, queries, k),
    )
    report = run_canary(config.gate, release, readers)
    if failed := report.metrics["failed"]:
        live = _roll_back(workspace, release, config)
        told = _write_metrics(workspace, release, config, report)
        raise GateError(
            f"release {release.release_id} was taken back: what consumers read is not what was published\n  - "
            + "\n  - ".join(failed),
            where=write_report(release),
            fix=f"{live}; find what writes to the store besides samespace, then run the night again{told}",
        )
    return report.model_copy(update={"seconds": round(monotonic() - began, 3)})


def _write_metrics(workspace: Workspace, release: Release, config: Config, report: StageReport) -> str:
    """Write the figures for Prometheus, if asked for; why they could not be written, to stand after a sentence."""
    if not config.night.metrics_file:
        return ""
    live = workspace.current().release_id == release.release_id
    try:
        write_metrics_file(config.night.metrics_file, release.manifest, live, [report])
    except ConfigError as error:
        return f"; {error.what} ({error.where})"
    return ""


def _roll_back(workspace: Workspace, release: Release, config: Config) -> str:
    """Make the earlier release live again; what is live now, as a sentence."""
    try:
        rollback(workspace, config.publish, why="the readback failed", token=release.token)
    except NotFoundError:
        return "there is no earlier release to go back to, so this one stays live"
    current = workspace.current().release_id
    promote(workspace, current, config.publish, token=release.token)
    return f"{current} is live again"


Stage = Callable[[], StageReport]
PACKAGES = ("ray", "torch", "feast", "pyarrow", "duckdb", "great_expectations", "numpy")


@dataclass(frozen=True)
class NightResult:
    """How a night ended: its release, sealed, whether it went live, and the reports of publishing and readback."""

    release: Release
    manifest: Manifest
    live: bool
    after: tuple[StageReport, ...] = ()


def night_stages(config: Config, release: Release) -> Generator[tuple[str, Stage], None, None]:
    """The stages of a night in their order; each reads what the ones before it wrote into the release.

    Close the iterator where a night ends early: the workers that encode may be running.
    """
    yield from _until_encoded(config, release)
    yield "compare_models", lambda: embeddings.model_comparison.run(config.encode, release)
    yield "align", lambda: alignment.job.run(config.align, release)
    yield "gate_vectors", lambda: validation.job.run_vectors(config.gate, release)
    yield "index", lambda: retrieval.job.run(config.index, release)
    yield "gate_index", lambda: validation.job.run_index(config.gate, release)
    if config.features != FeaturesConfig():
        yield "features", lambda: pipeline.optional_features.run(config.features, config.encode, release)
    if alignment.previous_spaces.is_needed(release, config.publish.previous_spaces_until):
        yield (
            "previous_spaces",
            lambda: alignment.previous_spaces.run(config.align, release, config.publish.previous_spaces_until),
        )
    if config.candidates.enabled:
        yield "candidates", lambda: retrieval.batch_candidates.run(config.candidates, release)


def _until_encoded(config: Config, release: Release) -> Iterator[tuple[str, Stage]]:
    """The first stages. Workers start while the input is judged, which keeps one processor busy."""
    with ExitStack() as running:

        @cache
        def encoding() -> EncodeJob:
            return running.enter_context(EncodeJob(config.encode, release, reuse_from_live(config, release)))

        def gate_input() -> StageReport:
            encoding().start()
            return validation.job.run_input(config.gate, release)

        yield "histories", lambda: embeddings.histories.job.run(config.histories, release)
        yield "gate_input", gate_input
        yield "encode", lambda: encoding().run()


def run_night(config: Config, request: NightRequest, tell: ConsoleReporter) -> NightResult:
    """Run or resume a night on `config.lake` and publish it, unless a gate holds it.

    Raises ConfigError where Ray cannot be started or reached, BusyError if another night holds the workspace,
    NotFoundError and ContractError for a lake that is not there or breaks its contract, EncoderError for a model that
    cannot be used, ClusterError where Ray or its workers fail.
    """
    workspace = Workspace.open(config.workspace)
    with at_hand(config.ray), lease(workspace.storage, "a night") as token:
        if request.promote:
            require_ownership_early(FeatureRepository(workspace.storage, config.publish))
        recovered = stores.publishing.publish.recover(workspace, config.publish, token)
        require_same_ids(Lake.open(config.lake), workspace, config.publish)
        try:
            model_id = model_for_tonight(config, workspace, request.as_of, tell)
        except ContractError:
            stage_rejected_rows(config, workspace, request, token)
            raise
        wish = RunInputs(config, request, model_id, Lake.open(config.lake).fingerprint())
        release, resumed, begun = begin_night(workspace, wish, token, recovered)
        tell.night_started(release, resumed)
        forecast = None if resumed else Forecast.start(config, request, release, workspace, tell)
        if not release.sealed:
            with ray_cluster(config.ray):
                _require_workers(config, release)
                reports, reasons = _run_stages(config, release, tell)
            release.seal(reasons, reports, _versions())
        manifest = release.manifest
        after = []
        if manifest.status == "ready" and request.promote:
            if not _is_live(workspace, release):
                after.append(stores.publishing.publish.publish(workspace, release, config.publish))
                tell.stage_finished(after[-1])
            after.append(verify_readback(workspace, release, config))
            tell.stage_finished(after[-1])
        write_night_report(workspace, release, tell)
        if forecast and after:
            forecast.close([*manifest.stages, *after], tell)
        close_intent(workspace, begun)
        return NightResult(release, manifest, _is_live(workspace, release), tuple(after))


def _require_workers(config: Config, release: Release) -> None:
    """Raise ConfigError where the cluster can never hold a worker that encodes, before anything is read."""
    if release.stage_report("encode") is None:
        spec = worker_spec(config.encode, release, None)
        Capacity().require(spec.resources, spec.name, spec.setting)


def _run_stages(config: Config, release: Release, tell: ConsoleReporter) -> tuple[list[StageReport], list[str]]:
    """Every stage's report, and the reasons to hold the release: the first gate that fails ends the night."""
    reports = []
    with closing(night_stages(config, release)) as stages:
        for name, stage in stages:
            raise_if_stopped()
            report = release.run_stage(name, stage)
            reports.append(report)
            tell.stage_finished(report)
            if reasons := report.metrics.get("failed"):
                return reports, list(reasons)
    return reports, []


def _is_live(workspace: Workspace, release: Release) -> bool:
    return (workspace.pointer() or {}).get("release_id") == release.release_id


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
