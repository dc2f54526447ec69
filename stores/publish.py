"""Publishing a release, and moving back: the difference to what is live, then the pointer.

    history → online store → current.json → event

The order is fixed: a reader may see new rows a moment before the pointer says so, never a pointer
whose rows are missing. In one space adjacent releases agree by construction, so rows are replaced in
place; a new space goes to views of its own that nobody reads before the pointer moves.

Callers hold the workspace's lease. Whatever was interrupted is completed by `recover`, which every
writing command calls first.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import pyarrow as pa

from stores.errors import GateError, MismatchError, NotFoundError, UsageError
from stores.features.delta import deltas
from stores.features.history import history_path, history_rows, write_history
from stores.features.online import OnlineViews
from stores.features.repository import FeatureRepository, PublishConfig
from stores.features.views import KINDS, Kind, history_schema
from stores.journal import (
    Live,
    Move,
    close_move,
    effective_time,
    live,
    read_move,
    set_live,
    write_move,
)
from stores.lease import check_token
from stores.pointer import move_pointer
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
        return _rebuild(workspace, release, config)
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

    Also registers the Feast history's place again if the workspace was moved.
    """
    move = read_move(workspace)
    if move is None:
        FeatureRepository(workspace.storage, config).follow()
        return None
    release = Release(workspace.uri, move.release_id, token)
    pointer = workspace.pointer()
    if pointer is not None and datetime.fromisoformat(pointer["promoted_at"]) == move.effective_at:
        return _finish(workspace, release, move, {}, monotonic())
    move = move.model_copy(update={"effective_at": effective_time(workspace, move.effective_at)})
    write_move(workspace, move)
    return _run(workspace, release, move, config)


def _require_ready(release: Release) -> None:
    if release.manifest.status != "ready":
        reasons = "; ".join(release.manifest.reasons)
        raise GateError(
            f"release {release.release_id} is held: {reasons}",
            fix="promote a release that is ready, or --force it with --why",
        )


def _begin(workspace: Workspace, release: Release, config: PublishConfig, event: str, why: str) -> StageReport:
    pointer, at = workspace.pointer(), effective_time(workspace)
    move = Move(
        event="published" if event == "published" else "promoted",
        release_id=release.release_id,
        space_id=release.space_id,
        base=live(workspace.storage).get(release.space_id),
        previous=None if pointer is None else pointer["release_id"],
        name=f"{release.release_id}-{at:%Y%m%dT%H%M%S%f}",
        effective_at=at,
        why=why,
    )
    write_move(workspace, move)
    return _run(workspace, release, move, config)


def _run(workspace: Workspace, release: Release, move: Move, config: PublishConfig) -> StageReport:
    began, check = monotonic(), _fence(workspace, release)
    repository = FeatureRepository(workspace.storage, config)
    types = id_types(release)
    metrics: dict[str, int] = {}
    for kind in KINDS:
        metrics[f"history_{kind.folder}"] = _write_history(workspace, release, move, kind, check)
    repository.prepare(move.space_id, {kind.entity: _named(types[kind.entity]) for kind in KINDS})
    same_store = move.base is not None and move.base.online_store == repository.online_name
    base = _base(workspace, move.base) if same_store else None
    with OnlineViews(repository, move.space_id) as views:
        for kind in KINDS:
            parts = deltas(kind, base, release)
            metrics[f"online_{kind.folder}"] = views.write(kind, parts, move.effective_at, check)
    check()
    set_live(workspace.storage, move.space_id, _held(release, repository))
    move_pointer(workspace, release.release_id, move.space_id, move.effective_at)
    return _finish(workspace, release, move, metrics, began)


def _finish(workspace: Workspace, release: Release, move: Move, metrics: dict[str, int], began: float) -> StageReport:
    facts = {"move": move.name, "space_id": move.space_id, "previous": move.previous, "why": move.why}
    if not any(event.get("move") == move.name for event in release.events()):
        release.add_event(move.event, effective_at=move.effective_at.isoformat(), **facts)
    close_move(workspace)
    rows = sum(count for name, count in metrics.items() if name.startswith("online_"))
    seconds = round(monotonic() - began, 3)
    return StageReport(name="publish", seconds=seconds, rows=rows, metrics={**metrics, **facts})


def _write_history(workspace: Workspace, release: Release, move: Move, kind: Kind, check: Callable[[], None]) -> int:
    base = _base(workspace, move.base)
    schema = history_schema(kind, id_types(release)[kind.entity])
    tables = (history_rows(kind, move.space_id, move.effective_at, part) for part in deltas(kind, base, release))
    path = history_path(kind, move.space_id, move.name)
    return write_history(workspace.storage, path, schema, tables, check)


def _rebuild(workspace: Workspace, release: Release, config: PublishConfig) -> StageReport:
    """Write every online row of the live release; the pointer and the history stay as they are."""
    began, check = monotonic(), _fence(workspace, release)
    repository = FeatureRepository(workspace.storage, config)
    repository.prepare(release.space_id, {name: _named(kind) for name, kind in id_types(release).items()})
    metrics: dict[str, int] = {}
    with OnlineViews(repository, release.space_id) as views:
        for kind in KINDS:
            metrics[f"online_{kind.folder}"] = views.write(kind, deltas(kind, None, release), datetime.now(UTC), check)
    set_live(workspace.storage, release.space_id, _held(release, repository))
    release.add_event("rebuilt", **metrics)
    return StageReport(
        name="publish", seconds=round(monotonic() - began, 3), rows=sum(metrics.values()), metrics=metrics
    )


def id_types(release: Release) -> dict[str, pa.DataType]:
    """The Arrow type of the ids by entity. Raises UsageError where a release has no file of a kind."""
    found = {}
    for kind in KINDS:
        files = [path for path in release.storage.files(kind.folder) if path.endswith(".parquet")]
        if not files:
            raise UsageError(f"release {release.release_id} has no {kind.folder}", where=release.storage.uri)
        found[kind.entity] = release.storage.dataset(kind.folder).schema.field(kind.join_key).type
    return found


def _named(kind: pa.DataType) -> str:
    if pa.types.is_int64(kind):
        return "int64"
    if pa.types.is_string(kind):
        return "string"
    raise MismatchError(f"ids are {kind}", expected="int64 or string")


def _held(release: Release, repository: FeatureRepository) -> Live:
    return Live(release_id=release.release_id, online_store=repository.online_name)


def _base(workspace: Workspace, held: Live | None) -> Release | None:
    if held is None:
        return None
    base = Release(workspace.uri, held.release_id)
    if not base.sealed:
        raise NotFoundError(
            f"release {held.release_id}, whose rows the Feast views hold, is gone",
            where=workspace.uri,
            fix="restore it",
        )
    return base


def _fence(workspace: Workspace, release: Release) -> Callable[[], None]:
    token = release.token
    return (lambda: None) if token is None else lambda: check_token(workspace.storage, token)


def _was_live(release: Release) -> bool:
    return any(event["event"] in ("published", "promoted") for event in release.events())
