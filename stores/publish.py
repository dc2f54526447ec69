"""Publishing a release, and moving back: verbs that find out what to do; `moving.py` does it.

Callers hold the workspace's lease. Whatever was interrupted is completed by `recover`, which every
writing command calls first.
"""

from datetime import datetime
from time import monotonic

from stores import erasure
from stores.errors import GateError, NotFoundError
from stores.features.repository import FeatureRepository, PublishConfig
from stores.journal import Move, effective_time, read_move, write_move
from stores.moving import Mover
from stores.release import Release, StageReport
from stores.workspace import Workspace

__all__ = ["PublishConfig", "promote", "publish", "recover", "rollback"]


def publish(workspace: Workspace, release: Release, config: PublishConfig) -> StageReport:
    """Make a sealed release live.

    The report's metrics: rows written and removed of each view, rows of history, the release replaced.
    Raises GateError for a held release, StoreError where a store refuses (the journal stays, run again),
    BusyError after a take-over.
    """
    recover(workspace, config, release.token)
    _require_ready(release)
    return _begin(workspace, release, config, "published", "")


def promote(
    workspace: Workspace,
    release_id: str,
    config: PublishConfig,
    why: str = "",
    token: int | None = None,
    force: bool = False,
) -> StageReport:
    """Move to a release; "current", or the id of the live one, writes its online rows again in full.

    Raises GateError for a held release unless `force` is set, NotFoundError for an unknown one.
    """
    recover(workspace, config, token)
    if release_id == "current":
        release_id = workspace.current().release_id
    target = workspace.release(release_id)
    release = Release(workspace.uri, target.release_id, token)
    pointer = workspace.pointer()
    if pointer is not None and pointer["release_id"] == release_id:
        return Mover(workspace, release, config).rebuild()
    if not force:
        _require_ready(release)
    return _begin(workspace, release, config, "promoted", why)


def rollback(workspace: Workspace, config: PublishConfig, why: str = "", token: int | None = None) -> StageReport:
    """Move to the newest older release that was live before. Raises NotFoundError if there is none."""
    recover(workspace, config, token)
    current = workspace.current().release_id
    earlier = [release for release in workspace.releases() if release.release_id < current and _was_live(release)]
    if not earlier:
        raise NotFoundError(f"no earlier release than {current} was ever live", where=workspace.uri)
    return promote(workspace, earlier[-1].release_id, config, why or "rollback", token)


def recover(workspace: Workspace, config: PublishConfig, token: int | None = None) -> StageReport | None:
    """Complete an interrupted move, at a new effective time; None where there was none.

    Also completes an interrupted erasure, and registers the Feast history's place again if the workspace was moved.
    """
    move = read_move(workspace)
    report = None if move is None else _complete(workspace, move, config, token)
    erasure.resume(workspace, config, token)
    if move is None:
        FeatureRepository(workspace.storage, config).follow()
    return report


def _complete(workspace: Workspace, move: Move, config: PublishConfig, token: int | None) -> StageReport:
    mover = Mover(workspace, Release(workspace.uri, move.release_id, token), config)
    pointer = workspace.pointer()
    if pointer is not None and datetime.fromisoformat(pointer["promoted_at"]) == move.effective_at:
        return mover.finish(move, {}, monotonic())
    move = move.model_copy(update={"effective_at": effective_time(workspace, move.effective_at)})
    write_move(workspace, move)
    return mover.run(move)


def _require_ready(release: Release) -> None:
    if release.manifest.status != "ready":
        reasons = "; ".join(release.manifest.reasons)
        raise GateError(
            f"release {release.release_id} is held: {reasons}",
            fix="promote a release that is ready, or --force it with --why",
        )


def _begin(workspace: Workspace, release: Release, config: PublishConfig, event: str, why: str) -> StageReport:
    pointer, at, mover = workspace.pointer(), effective_time(workspace), Mover(workspace, release, config)
    own, older = mover.plan(_older(workspace, release))
    move = Move(
        **own.model_dump(),
        event="published" if event == "published" else "promoted",
        previous=None if pointer is None else pointer["release_id"],
        name=f"{release.release_id}-{at:%Y%m%dT%H%M%S%f}",
        effective_at=at,
        why=why,
        older=older,
    )
    write_move(workspace, move)
    return mover.run(move)


def _older(workspace: Workspace, release: Release) -> dict[str, str]:
    """By older space, the release whose rows it is to serve while `release` is live.

    A release that goes live for the first time brings what it was mapped onto and leaves the others alone; one that was
    live before brings back what they served then.
    """
    wanted = {space_id: old.release_id for space_id, old in release.manifest.old_spaces.items()}
    if not _was_live(release):
        return {space_id: one for space_id, one in wanted.items() if one == release.release_id}
    now = workspace.current().manifest.old_spaces
    unmapped = {space_id: old.last_release for space_id, old in now.items() if space_id != release.space_id}
    return unmapped | wanted


def _was_live(release: Release) -> bool:
    return any(event["event"] in ("published", "promoted") for event in release.events())
