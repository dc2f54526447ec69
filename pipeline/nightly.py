"""One night, as a story."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import alignment.job
import alignment.old_spaces
import embeddings.comparison
import embeddings.histories
import pipeline.features
import retrieval.candidates_job
import retrieval.job
import stores.publish
import validation.job
from embeddings.job import EncodeJob, worker_spec
from pipeline.canary import probe
from pipeline.carrying import carry_for
from pipeline.cluster import at_hand, cluster
from pipeline.config import Config
from pipeline.features_config import FeaturesConfig
from pipeline.forecast import Forecast
from pipeline.interruption import raise_if_stopped
from pipeline.planning import Request, Wish, begin_night, require_same_ids
from pipeline.refused import keep_refused
from pipeline.reporting import report_night
from pipeline.telling import Teller
from pipeline.training import model_for_tonight
from stores.errors import ContractError
from stores.features.ownership import check_early
from stores.features.repository import FeatureRepository
from stores.intent import finish
from stores.lake.contract import Lake
from stores.lease import lease
from stores.ray_capacity import Capacity
from stores.release import Manifest, Release, StageReport
from stores.workspace import Workspace

Stage = Callable[[], StageReport]
PACKAGES = ("ray", "torch", "feast", "pyarrow", "duckdb", "great_expectations", "numpy")


@dataclass(frozen=True)
class Night:
    """How a night ended: its release, sealed, whether it went live, and the reports of publishing and canary."""

    release: Release
    manifest: Manifest
    live: bool
    after: tuple[StageReport, ...] = ()


def story(config: Config, release: Release) -> Generator[tuple[str, Stage], None, None]:
    """The stages of a night in their order; each reads what the ones before it wrote into the release.

    Close the iterator where a night ends early: the workers that encode may be running.
    """
    yield from _until_encoded(config, release)
    yield "compare", lambda: embeddings.comparison.run(config.encode, release)
    yield "align", lambda: alignment.job.run(config.align, release)
    yield "gate_vectors", lambda: validation.job.run_vectors(config.gate, release)
    yield "index", lambda: retrieval.job.run(config.index, release)
    yield "gate_index", lambda: validation.job.run_index(config.gate, release)
    if config.features != FeaturesConfig():
        yield "features", lambda: pipeline.features.run(config.features, config.encode, release)
    if alignment.old_spaces.wanted(release, config.publish.dual_until):
        yield "old_spaces", lambda: alignment.old_spaces.run(config.align, release, config.publish.dual_until)
    if config.candidates.enabled:
        yield "candidates", lambda: retrieval.candidates_job.run(config.candidates, release)


def _until_encoded(config: Config, release: Release) -> Iterator[tuple[str, Stage]]:
    """The first stages. Workers start while the input is judged, which keeps one processor busy."""
    with ExitStack() as running:

        @cache
        def encoding() -> EncodeJob:
            return running.enter_context(EncodeJob(config.encode, release, carry_for(config, release)))

        def gate_input() -> StageReport:
            encoding().start()
            return validation.job.run_input(config.gate, release)

        yield "histories", lambda: embeddings.histories.run(config.histories, release)
        yield "gate_input", gate_input
        yield "encode", lambda: encoding().run()


def run_night(config: Config, request: Request, tell: Teller) -> Night:
    """Run or resume a night on `config.lake` and publish it, unless a gate holds it.

    Raises ConfigError where Ray cannot be started or reached, BusyError if another night holds the workspace,
    NotFoundError and ContractError for a lake that is not there or breaks its contract, EncoderError for a model that
    cannot be used, ClusterError where Ray or its workers fail.
    """
    workspace = Workspace.open(config.workspace)
    with at_hand(config.ray), lease(workspace.storage, "a night") as token:
        if request.promote:
            check_early(FeatureRepository(workspace.storage, config.publish))
        recovered = stores.publish.recover(workspace, config.publish, token)
        require_same_ids(Lake.open(config.lake), workspace, config.publish)
        try:
            model_id = model_for_tonight(config, workspace, request.as_of, tell)
        except ContractError:
            keep_refused(config, workspace, request, token)
            raise
        wish = Wish(config, request, model_id, Lake.open(config.lake).fingerprint())
        release, resumed, begun = begin_night(workspace, wish, token, recovered)
        tell.begins(release, resumed)
        forecast = None if resumed else Forecast.begin(config, request, release, workspace, tell)
        if not release.sealed:
            with cluster(config.ray):
                _require_workers(config, release)
                reports, reasons = _run_stages(config, release, tell)
            release.seal(reasons, reports, _versions())
        manifest = release.manifest
        after = []
        if manifest.status == "ready" and request.promote:
            if not _is_live(workspace, release):
                after.append(stores.publish.publish(workspace, release, config.publish))
                tell.stage(after[-1])
            after.append(probe(workspace, release, config))
            tell.stage(after[-1])
        report_night(workspace, release, tell)
        if forecast and after:
            forecast.close([*manifest.stages, *after], tell)
        finish(workspace, begun)
        return Night(release, manifest, _is_live(workspace, release), tuple(after))


def _require_workers(config: Config, release: Release) -> None:
    """Raise ConfigError where the cluster can never hold a worker that encodes, before anything is read."""
    if release.report("encode") is None:
        spec = worker_spec(config.encode, release, None)
        Capacity().require(spec.resources, spec.name, spec.setting)


def _run_stages(config: Config, release: Release, tell: Teller) -> tuple[list[StageReport], list[str]]:
    """Every stage's report, and the reasons to hold the release: the first gate that fails ends the night."""
    reports = []
    with closing(story(config, release)) as stages:
        for name, stage in stages:
            raise_if_stopped()
            report = release.once(name, stage)
            reports.append(report)
            tell.stage(report)
            if reasons := report.metrics.get("failed"):
                return reports, list(reasons)
    return reports, []


def _is_live(workspace: Workspace, release: Release) -> bool:
    return (workspace.pointer() or {}).get("release_id") == release.release_id


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
