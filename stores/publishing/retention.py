"""Which releases may go: all but the newest ones, the live one, and those that spaces and Feast's views refer to."""

from datetime import UTC, datetime, timedelta

from stores.errors import CorruptError
from stores.files.checksummed_json import dump_checksummed, read_facts
from stores.publishing.journal import published_releases, read_plan
from stores.releases.lease import check_token
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace, remove_temp_files, remove_work_files
from stores.settings import Settings

JOURNAL = "journal/gc.json"
"""The models that ran in the releases about to be removed: after them nothing else would name these models."""
STALE_AFTER = timedelta(days=1)
"""Temporary files of this age belong to no process that still runs."""


class _Begun(Settings):
    """What the journal says."""

    models: list[str]


def droppable(workspace: Workspace, keep: int) -> list[Release]:
    """Sealed releases beyond the newest `keep`, oldest first; never one that is live, going live, or referred to."""
    sealed = workspace.releases()
    kept = sealed[-keep:] if keep > 0 else []
    if pointer := workspace.pointer():
        kept = [*kept, workspace.release(pointer["release_id"])]
    held = published_releases(workspace.storage)
    kept = [*kept, *(release for release in sealed if release.release_id in held)]
    needed = held | {name for release in kept for name in _referred(release)}
    if move := read_plan(workspace):
        needed.add(move.release_id)
    return [release for release in sealed if release.release_id not in needed]


def _referred(release: Release) -> set[str | None]:
    """A release, the one that opened its space, and those that older spaces serve or are mapped by while it is live."""
    try:
        older = release.manifest.previous_spaces.values()
    except CorruptError as error:
        cure = f"restore it, or remove the folder releases/{release.release_id}, and run samespace gc again"
        raise CorruptError(error.what, where=release.storage.uri, fix=cure) from error
    found = {name for old in older for name in (old.release_id, old.reference_release, old.last_release)}
    return {release.release_id, release.plan.reference_release, *found}


def collect_garbage(workspace: Workspace, keep: int, token: int | None = None) -> list[str]:
    """Remove what may go, the models that ran only in it, and what killed processes left; the ids of the releases.

    What a killed run of this has not got to, half-deleted releases among it, goes with the next. Callers hold the
    lease. Raises CorruptError where a release that stays does not say which others it needs, BusyError after a
    take-over.
    """

    def check() -> None:
        if token is not None:
            check_token(workspace.storage, token)

    gone = [*workspace.half_deleted(), *droppable(workspace, keep)]
    models = {model for model in map(_model, gone) if model} | due(workspace)
    if models:
        workspace.storage.write(JOURNAL, dump_checksummed({"models": sorted(models)}))
    for release in gone:
        check()
        workspace.remove(release)
    check()
    _drop_models(workspace, models)
    for release in workspace.releases():
        remove_work_files(release)
    remove_temp_files(workspace.storage, before=datetime.now(UTC) - STALE_AFTER)
    return sorted(release.release_id for release in gone)


def _drop_models(workspace: Workspace, models: set[str]) -> None:
    """Remove models that no release names any more, unless the next night runs them; then forget that they were due."""
    left = [_model(release) for release in [*workspace.releases(), *workspace.staged()]]
    unused = set() if None in left else models - set(left)  # a release that cannot be read may need any of them
    for model_id in unused & set(workspace.models.folders()):
        if model_id != workspace.next_model():
            workspace.models.delete_tree(model_id)
    workspace.storage.delete(JOURNAL)


def _model(release: Release) -> str | None:
    """The model that a release runs; None where neither manifest nor plan can be read."""
    try:
        return release.plan.model_id
    except CorruptError:
        pass
    try:
        return Plan.model_validate_json(release.storage.read("plan.json")).model_id
    except (CorruptError, ValueError):
        return None


def due(workspace: Workspace) -> set[str]:
    """The models that a killed run may have been removing; none where that cannot be read: it costs disk space."""
    try:
        return (
            set(read_facts(workspace.storage, JOURNAL, _Begun).models) if workspace.storage.exists(JOURNAL) else set()
        )
    except CorruptError:
        return set()
