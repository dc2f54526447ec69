"""Publishing a release, and moving back: verbs that find out what to do; `publish_transaction.py` does it.

Callers hold the workspace's lease. Whatever was interrupted is completed by `recover`, which every
writing command calls first. The same verb given again after an interruption is done once (`command_intent.py`).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from stores.errors import ConfigError, CorruptError, GateError, MismatchError, NotFoundError
from stores.feast.ownership import claim_ownership
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.publishing import command_intent, erasure
from stores.publishing.erasure import PageWriter, Receipt
from stores.publishing.journal import PublishPlan, Verb, close_plan, effective_time, read_plan, write_plan
from stores.publishing.publish_transaction import PublishTransaction, close, undo
from stores.releases.lease import check_token
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace

__all__ = ["COMPLETED", "PublishConfig", "Recovery", "promote", "publish", "recover", "rollback"]

COMPLETED = "completed"
"""In the metrics of a report: the move was begun by an earlier run of the same command, which was interrupted."""


@dataclass(frozen=True)
class Recovery:
    """What was interrupted and is complete now: a move of the pointer with its report, the receipt of an erasure."""

    move: PublishPlan | None = None
    report: StageReport | None = None
    receipt: Receipt | None = None


def publish(workspace: Workspace, release: Release, config: PublishConfig) -> StageReport:
    """Make a sealed release live.

    The report's metrics: rows written and removed of each view, rows of history, the release replaced.
    Raises GateError for a held release, StoreError where a store refuses (the journal stays, run again),
    CorruptError for a damaged one (what was live stays live), BusyError after a take-over.
    """
    recover(workspace, config, release.token)
    _require_ready(release)
    return _plan_publish(workspace, release, config, "publish", "")


def promote(
    workspace: Workspace,
    release_id: str,
    config: PublishConfig,
    why: str = "",
    token: int | None = None,
    force: bool = False,
) -> StageReport:
    """Move to a release; "current", or the id of the live one, writes its online rows again in full.

    Where an interrupted run of the same command has made the release live, that is all: the report's metrics say
    `completed`. Raises GateError for a held release unless `force` is set or it was live before, NotFoundError for an
    unknown one, CorruptError for a damaged one.
    """
    recover(workspace, config, token)
    if release_id == "current":
        return PublishTransaction(
            workspace, _with_token(workspace, workspace.current().release_id, token), config
        ).rebuild()
    release = _with_token(workspace, workspace.release(release_id).release_id, token)
    with command_intent.intent_recorded(workspace, "promote", {"release_id": release_id}, release_id) as begun:
        return _promoted(workspace, release, config, begun, why, force)


def _promoted(
    workspace: Workspace,
    release: Release,
    config: PublishConfig,
    begun: command_intent.CommandIntent,
    why: str,
    force: bool,
) -> StageReport:
    if (workspace.pointer() or {}).get("release_id") == release.release_id:
        done = begun.repeated and command_intent.pointer_has_moved(workspace, begun)
        return _completed(release) if done else PublishTransaction(workspace, release, config).rebuild()
    if not force:
        require_promotable(release)
    return _plan_publish(workspace, release, config, "promote", why)


def rollback(workspace: Workspace, config: PublishConfig, why: str = "", token: int | None = None) -> StageReport:
    """Move to the release that was live before, other than those taken back. Raises NotFoundError if there is none.

    Where an interrupted run of this has gone back, that is all: the report's metrics say `completed`.
    """
    recovered = recover(workspace, config, token)
    with command_intent.intent_recorded(workspace, "rollback", {}) as begun:
        current = workspace.current()
        if _went_back(recovered) or (begun.repeated and command_intent.pointer_has_moved(workspace, begun)):
            return _completed(current)
        earlier = [release_id for release_id in _live_lineage(workspace) if release_id != current.release_id]
        if not earlier:
            raise NotFoundError(
                f"no earlier release than {current.release_id} was live, or it was taken back", where=workspace.uri
            )
        release = _with_token(workspace, workspace.release(earlier[-1]).release_id, token)
        return _plan_publish(workspace, release, config, "rollback", why or "rollback")


def _went_back(recovered: Recovery | None) -> bool:
    """Whether a rollback that was interrupted has just been completed."""
    return recovered is not None and recovered.move is not None and recovered.move.verb == "rollback"


def _completed(release: Release) -> StageReport:
    return StageReport(name="publish", metrics={COMPLETED: True, "space_id": release.space_id})


def _with_token(workspace: Workspace, release_id: str, token: int | None) -> Release:
    return Release(workspace.uri, release_id, token)


def recover(
    workspace: Workspace, config: PublishConfig, token: int | None = None, write_page: PageWriter | None = None
) -> Recovery | None:
    """Complete an interrupted move, at a new effective time, and an interrupted erasure; None where there was neither.

    A move whose release is damaged, or has ids of another type, is given up instead, of which the release gets an
    event: what was live stays live.
    `write_page` writes the reports anew that an erasure removed. Also registers the Feast history's place again if the
    workspace was moved.
    """
    move, report = read_plan(workspace), None
    if move is not None:
        with suppress(CorruptError, MismatchError):
            report = _complete(workspace, move, config, token)
    receipt = erasure.resume_erasure(workspace, config, token, write_page)
    if move is None:
        FeatureRepository(workspace.storage, config).relocate()
    if report is None and receipt is None:
        return None
    return Recovery(move if report is not None else None, report, receipt)


def _complete(workspace: Workspace, move: PublishPlan, config: PublishConfig, token: int | None) -> StageReport:
    release, pointer = Release(workspace.uri, move.release_id, token), workspace.pointer()
    if pointer is not None and datetime.fromisoformat(pointer["promoted_at"]) == move.effective_at:
        return close(workspace, release, move, {}, monotonic())
    move = move.model_copy(update={"effective_at": effective_time(workspace, move.effective_at)})
    _note(workspace, release, move, config)
    return _apply_plan(workspace, release, move, config)


def _note(workspace: Workspace, release: Release, move: PublishPlan, config: PublishConfig) -> None:
    """Write the journal, then make sure that the online store is this workspace's, before anything else is written."""
    if release.token is not None:
        check_token(workspace.storage, release.token)
    write_plan(workspace, move)
    claim_ownership(FeatureRepository(workspace.storage, config), {part.space_id for part in (move, *move.older)})


def _apply_plan(workspace: Workspace, release: Release, move: PublishPlan, config: PublishConfig) -> StageReport:
    """Make a move; undo it where a file is damaged or ids have another type, so that it blocks no later command."""
    began = monotonic()
    try:
        metrics = PublishTransaction(workspace, release, config).apply(move)
    except (CorruptError, MismatchError) as error:
        undo(workspace, release, move, error.what)
        raise
    return close(workspace, release, move, metrics, began)


def require_promotable(release: Release) -> None:
    """Raise GateError for a release that is held and was never live."""
    if not _was_live(release):
        _require_ready(release)


def _require_ready(release: Release) -> None:
    if release.manifest.status != "ready":
        reasons = "; ".join(release.manifest.reasons)
        raise GateError(
            f"release {release.release_id} is held: {reasons}",
            fix="promote a release that is ready, or --force it with --why",
        )


def _plan_publish(workspace: Workspace, release: Release, config: PublishConfig, verb: Verb, why: str) -> StageReport:
    pointer, at = workspace.pointer(), effective_time(workspace)
    own, older = PublishTransaction(workspace, release, config).plan(_previous_space_releases(workspace, release))
    move = PublishPlan(
        **own.model_dump(),
        event="published" if verb == "publish" else "promoted",
        previous=None if pointer is None else pointer["release_id"],
        name=f"{release.release_id}-{at:%Y%m%dT%H%M%S%f}",
        effective_at=at,
        why=why,
        older=older,
        verb=verb,
    )
    try:
        _note(workspace, release, move, config)
    except ConfigError:  # the store is another workspace's: there is nothing that a later command could complete
        close_plan(workspace)
        raise
    return _apply_plan(workspace, release, move, config)


def _previous_space_releases(workspace: Workspace, release: Release) -> dict[str, str]:
    """By older space, the release whose rows it is to serve while `release` is live.

    A release that goes live for the first time brings what it was mapped onto and leaves the others alone; one that was
    live before brings back what they served then.
    """
    wanted = {space_id: old.release_id for space_id, old in release.manifest.previous_spaces.items()}
    if not _was_live(release):
        return {space_id: one for space_id, one in wanted.items() if one == release.release_id}
    try:
        now = workspace.current().manifest.previous_spaces
    except (CorruptError, NotFoundError):
        now = {}  # damaged, or no pointer: no record says which spaces it leaves behind; those it knows of stay
    unmapped = {space_id: old.last_release for space_id, old in now.items() if space_id != release.space_id}
    return unmapped | wanted


def _was_live(release: Release) -> bool:
    return bool(_times_live(release))


def _times_live(release: Release) -> list[datetime]:
    """The moments from which a release counted as live; none where its events are damaged, which the doctor names."""
    try:
        events = release.events()
    except CorruptError:
        return []
    moves = (event for event in events if event["event"] in ("published", "promoted"))
    return [datetime.fromisoformat(event.get("effective_at", event["at"])) for event in moves]


def _live_lineage(workspace: Workspace) -> list[str]:
    """The releases that one can go back through, the live one last: going back to one takes those after it back."""
    moves = sorted((at, one.release_id) for one in workspace.releases() for at in _times_live(one))
    line: list[str] = []
    for _, release_id in moves:
        line = [*line[: line.index(release_id)], release_id] if release_id in line else [*line, release_id]
    return line
