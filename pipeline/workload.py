"""The workload of tonight's run: how many events, members and titles, by the lake and the live release."""

from datetime import UTC, datetime

from embeddings.histories.job import active_members, plan_shards
from embeddings.histories.preview import preview
from pipeline.config import Config
from pipeline.estimate import Workload
from pipeline.run_plan import NightRequest, require_same_ids
from stores.lake.contract import Lake
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.release import Release
from stores.releases.workspace import Workspace


def estimate_workload(config: Config, request: NightRequest, model_id: str | None, workspace: Workspace) -> Workload:
    """The work of a night that began now; nothing is written, no row is judged.

    Raises NotFoundError where there is no lake, StoreError where it cannot be read.
    """
    lake, until = Lake.open(config.lake), request.as_of or datetime.now(UTC)
    members = active_members(lake, config.histories, None, until)
    live = _carried_from(config, request, model_id, workspace)
    active = active_members(lake, config.histories, live.plan.as_of, until) if live else members
    return _work(lake, config, workspace, members, active)


def estimate_judged_workload(
    config: Config, request: NightRequest, model_id: str | None, workspace: Workspace
) -> Workload:
    """The work of a night that began now, its input judged as the night will judge it; nothing is written.

    Raises what that night would: ContractError where too many rows are bad or ids have another type, NotFoundError
    where there is no lake or no event, StoreError where it cannot be read.
    """
    lake, until = Lake.open(config.lake), request.as_of or datetime.now(UTC)
    require_same_ids(lake, workspace, config.publish)
    live = _carried_from(config, request, model_id, workspace)
    since = live.plan.as_of if live else None
    found = preview(lake, until, since, config.histories, read_suppression_list(workspace.storage))
    return _work(lake, config, workspace, found.members, found.active)


def _carried_from(config: Config, request: NightRequest, model_id: str | None, workspace: Workspace) -> Release | None:
    """The live release, where tonight carries vectors forward from it."""
    live = workspace.current() if workspace.pointer() else None
    return live if live is not None and not request.full and may_reuse(config, live, model_id) else None


def _work(lake: Lake, config: Config, workspace: Workspace, members: int, active: int) -> Workload:
    live = workspace.current() if workspace.pointer() else None
    encoded = min(active, members)
    return Workload(
        events=lake.interactions.rows,
        members=members,
        encoded=encoded,
        carried=members - encoded,
        titles=lake.titles.rows,
        shards=live.plan.shards if live else plan_shards(lake, config.histories),
        tokens_per_member=_tokens(live, lake.interactions.rows, members),
        again=live is not None,
    )


def may_reuse(config: Config, live: Release, model_id: str | None) -> bool:
    """Whether vectors of the live release hold tonight: the same model, mode and preprocessing."""
    encoded, aligned = live.stage_report("encode"), live.stage_report("align")
    same = encoded is not None and encoded.metrics.get("preprocessing") == config.encode.preprocessing
    return (
        same and live.manifest.model_id == model_id and bool(aligned and aligned.metrics["mode"] == config.align.mode)
    )


def _tokens(live: Release | None, events: int, members: int) -> float:
    """Tokens of a member: as in the live release, else as many as events."""
    report = live.stage_report("histories") if live else None
    if report and report.metrics.get("members"):
        return float(report.metrics["tokens"] / report.metrics["members"])
    return events / max(members, 1)
