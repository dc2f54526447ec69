"""One move of the pointer, step by step: history → online store → feature services → current.json → event.

The order is fixed: a reader may see new rows a moment before the pointer says so, never a pointer whose rows are
missing. A move does the same in every older space that follows the release (`[publish] previous_spaces_until`).
"""

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from stores.errors import CorruptError
from stores.feast.checksums import forget_checksum
from stores.feast.feature_views import VIEWS
from stores.feast.offline_store import history_path
from stores.feast.ownership import claim_ownership
from stores.feast.release_diff import release_in_views
from stores.feast.repository import PublishConfig
from stores.publishing.journal import PublishPlan, SpacePlan, abandon, close_plan, forget_rows, published_slots
from stores.publishing.space_publisher import SpacePublisher
from stores.releases.lease import check_token
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace, move_pointer


class PublishTransaction:
    """Brings the views of the spaces, and then the pointer, to a release."""

    def __init__(self, workspace: Workspace, release: Release, config: PublishConfig) -> None:
        self.workspace, self.release, self.config = workspace, release, config
        self.views = SpacePublisher(workspace, release, config)

    def plan(self, older: dict[str, str]) -> tuple[SpacePlan, tuple[SpacePlan, ...]]:
        """What to do in the release's space, and in `older` ones, which are to serve the release named of each."""
        others = [self._views(release_id, space_id) for space_id, release_id in older.items()]
        return self.views.plan(), tuple(views.plan() for views in others if not views.is_published())

    def apply(self, move: PublishPlan) -> dict[str, int]:
        """Do a whole move, or all of it again, up to the pointer; rows written by view."""
        metrics: dict[str, int] = {}
        parts = [(self.views, move), *((self._views(one.release_id, one.space_id), one) for one in move.older)]
        for views, part in parts:
            metrics |= self._named("history", part, views.write_history(part, move.name, move.effective_at))
        for views, part in parts:
            metrics |= self._named("online", part, views.write_online(part.slot, move.effective_at))
        self.views.check()
        for views, part in parts:
            views.record(part.slot)
            views.switch_services(part)
        self._let_readers_learn()
        move_pointer(self.workspace, self.release, move.effective_at)
        return metrics

    def rebuild(self) -> StageReport:
        """Write every online row of every space again, in both slots; the pointer and the history stay as they are.

        What the history has ever named and a release has not got is removed. Interrupted, the slots that were not
        reached count as lost, and whoever writes them next writes them in full.
        """
        began = monotonic()
        metrics: dict[str, int] = {}
        main = self.views.plan().model_copy(update={"slot": self.views.serving()})
        held = {place: one.release_id for place, one in published_slots(self.workspace.storage).items()}
        own = {(main.space_id, main.slot): main.release_id}
        places = own | held | own  # what is live first, whatever became of the others
        claim_ownership(self.views.repository, {space_id for space_id, _ in places})
        for place in places:
            forget_rows(self.workspace.storage, *place)
        for (space_id, slot), release_id in places.items():
            views = self._views(release_id, space_id)
            part = SpacePlan(release_id=release_id, space_id=space_id, base=None, slot=slot)
            metrics |= self._named("online", part, views.write_online(slot, datetime.now(UTC), everything=True))
            views.record(slot, history=(space_id, slot) == (main.space_id, main.slot))
        self.views.switch_services(main)
        self.release.add_event("rebuilt", **metrics)
        return _report(metrics, began)

    def _views(self, release_id: str, space_id: str) -> SpacePublisher:
        release = release_in_views(self.workspace, release_id, space_id)
        release.token = self.release.token
        return SpacePublisher(self.workspace, release, self.config)

    def _named(self, what: str, part: SpacePlan, counts: dict[str, int]) -> dict[str, int]:
        """Counts of rows by folder as metrics; what is not the release's own names its space and slot."""
        own = (part.space_id, part.release_id) == (self.release.space_id, self.release.release_id)
        suffix = "" if own else f"_s{part.space_id}_{part.slot}"
        return {f"{what}_{folder}{suffix}": count for folder, count in counts.items()}

    def _let_readers_learn(self) -> None:
        """Before the pointer leads readers into another space, wait until their registries know its views."""
        pointer = self.workspace.pointer()
        if pointer is not None and pointer["space_id"] != self.release.space_id:
            self.views.wait_since(self.views.repository.changed_at())


def close(
    workspace: Workspace, release: Release, move: PublishPlan, metrics: dict[str, int], began: float
) -> StageReport:
    """Append the event and close the journal, both once; the pointer has moved."""
    facts: dict[str, Any] = {"move": move.name, "space_id": move.space_id}
    facts |= {"previous": move.previous, "why": move.why}
    facts |= {"older": {one.space_id: one.release_id for one in move.older}} if move.older else {}
    if not _already_recorded(release, move):
        release.add_event(move.event, effective_at=move.effective_at.isoformat(), **facts)
    close_plan(workspace)
    return _report({**metrics, **facts}, began)


def _already_recorded(release: Release, move: PublishPlan) -> bool:
    try:
        return any(event.get("move") == move.name for event in release.events())
    except CorruptError:
        return False  # better told twice than never


def undo(workspace: Workspace, release: Release, move: PublishPlan, why: str) -> None:
    """Give a move up whose release is damaged, before the pointer moves: the history forgets it, an event says why.

    Online rows that it wrote are overwritten by the next move, which takes no row for granted; those of entities that
    no other release had stay until one has them. Raises BusyError after a take-over.
    """
    if release.token is not None:
        check_token(workspace.storage, release.token)
    for part in (move, *move.older):
        abandon(workspace.storage, part)
        for view in VIEWS:
            path = history_path(view, part.space_id, move.name)
            forget_checksum(workspace.storage, path)
            workspace.storage.delete(path)
    if release.sealed:
        release.add_event("given_up", move=move.name, why=why)
    close_plan(workspace)


def _report(metrics: dict[str, Any], began: float) -> StageReport:
    rows = sum(count for name, count in metrics.items() if name.startswith("online_"))
    return StageReport(name="publish", seconds=round(monotonic() - began, 3), rows=rows, metrics=metrics)
