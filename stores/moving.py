"""One move of the pointer, step by step: history → online store → feature services → current.json → event.

The order is fixed: a reader may see new rows a moment before the pointer says so, never a pointer whose rows are
missing. With one slot changed rows are overwritten in place, which readers of one space cannot tell apart; with two
the idle slot is brought to the release and the feature services move to it in one write of the registry.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from stores import columns
from stores.errors import UsageError
from stores.features.delta import deltas, files_of, held_by
from stores.features.history import beginning_rows, history_path, history_rows, write_history
from stores.features.online import Moment, OnlineViews
from stores.features.registering import serving, with_services, with_views
from stores.features.repository import FeatureRepository, PublishConfig
from stores.features.views import BLUE, GREEN, VIEWS, View, history_schema
from stores.journal import Live, Move, close_move, live, set_live
from stores.lease import check_token
from stores.pointer import move_pointer
from stores.release import Release, StageReport
from stores.workspace import Workspace


class Mover:
    """Brings history, online store, services and pointer to a release."""

    def __init__(self, workspace: Workspace, release: Release, config: PublishConfig) -> None:
        self.workspace, self.release, self.config = workspace, release, config
        self.repository = FeatureRepository(workspace.storage, config)
        self.space_id = release.space_id

    def check(self) -> None:
        """Raise BusyError once another command has taken the workspace."""
        if self.release.token is not None:
            check_token(self.workspace.storage, self.release.token)

    def slot(self) -> str:
        """The slot to bring to the release: the only one, or of two the one that no service reads."""
        now = serving(self.repository.described(), self.space_id)
        if self.config.slots == 1 or now is None:
            return BLUE
        return GREEN if now["slot"] == BLUE else BLUE

    def run(self, move: Move) -> StageReport:
        """Do a whole move, or all of it again."""
        began = monotonic()
        history_base = held_by(self.workspace, move.base.release_id) if move.base else None
        found = stored_views(self.release, history_base)
        metrics = {f"history_{v.folder}": self._history(move, history_base, v, s) for v, s in found.items()}
        online = self._online(found, move.slot, Moment(move.effective_at, self.check))
        self.check()
        set_live(self.workspace.storage, self.space_id, self._held(), move.slot)
        self._point(list(found), move.slot)
        self._let_readers_learn()
        move_pointer(self.workspace, self.release.release_id, self.space_id, move.effective_at)
        return self.finish(move, metrics | online, began)

    def finish(self, move: Move, metrics: dict[str, int], began: float) -> StageReport:
        """Append the event and close the journal, both once."""
        facts: dict[str, Any] = {"move": move.name, "space_id": move.space_id}
        facts |= {"previous": move.previous, "why": move.why}
        if not any(event.get("move") == move.name for event in self.release.events()):
            self.release.add_event(move.event, effective_at=move.effective_at.isoformat(), **facts)
        close_move(self.workspace)
        return _report({**metrics, **facts}, began)

    def rebuild(self) -> StageReport:
        """Write every online row of the live release again; the pointer and the history stay as they are."""
        began, now = monotonic(), serving(self.repository.described(), self.space_id)
        slot = BLUE if self.config.slots == 1 or now is None else now["slot"]
        found = stored_views(self.release, None)
        metrics = self._online(found, slot, Moment(datetime.now(UTC), self.check), everything=True)
        set_live(self.workspace.storage, self.space_id, self._held(), slot)
        self._point(list(found), slot)
        self.release.add_event("rebuilt", **metrics)
        return _report(metrics, began)

    def _history(self, move: Move, base: Release | None, view: View, stored: pa.Schema) -> int:
        tables = self._history_tables(move, view, base)
        path = history_path(view, self.space_id, move.name)
        return write_history(self.workspace.storage, path, history_schema(view, stored), tables, self.check)

    def _history_tables(self, move: Move, view: View, base: Release | None) -> Iterator[pa.Table]:
        for part in deltas(view, base, self.release):
            if self.repository.offline_kind == "dask":
                yield beginning_rows(view, part)
            yield history_rows(view, self.space_id, move.effective_at, part)

    def _online(self, found: dict[View, pa.Schema], slot: str, at: Moment, everything: bool = False) -> dict[str, int]:
        """Bring a slot from what it holds to the release; the rows written and removed of each view."""
        self._register(found, slot)
        base = None if everything else self._online_base(slot)
        if base is not None:
            found = {**found, **stored_views(base, None)}
        if not everything:
            self._let_readers_leave(base, slot)
        with OnlineViews(self.repository, [view.view(self.space_id, slot) for view in found]) as views:
            return {
                f"online_{view.folder}": views.write(view, (self.space_id, slot), deltas(view, base, self.release), at)
                for view in found
            }

    def _online_base(self, slot: str) -> Release | None:
        """The release whose rows a slot of this online store holds."""
        held = live(self.workspace.storage, slot).get(self.space_id)
        return (
            held_by(self.workspace, held.release_id)
            if held and held.online_store == self._held().online_store
            else None
        )

    def _register(self, found: dict[View, pa.Schema], slot: str) -> None:
        def amend(described: dict[str, object]) -> dict[str, object]:
            described = with_views(described, found, self.space_id, self.config.slots)
            return (
                with_services(described, list(found), self.space_id, slot, {}) if self.config.slots == 1 else described
            )

        self.repository.change(amend)

    def _point(self, views: list[View], slot: str) -> None:
        """Move the services of two slots; with one slot they never move."""
        if self.config.slots == 1:
            return
        now = datetime.now(UTC).isoformat()
        tags = {"release_id": self.release.release_id, "space_id": self.space_id, "moved_at": now}
        current = serving(self.repository.described(), self.space_id)
        if current is None or (current["slot"], current["tags"].get("release_id")) != (slot, tags["release_id"]):
            self.repository.change(lambda described: with_services(described, views, self.space_id, slot, tags))

    def _let_readers_leave(self, base: Release | None, slot: str) -> None:
        """Wait until no reader's copy of the registry can point to the idle slot any more, if rows there change."""
        now = serving(self.repository.described(), self.space_id)
        if self.config.slots == 1 or now is None or now["slot"] == slot or "moved_at" not in now["tags"]:
            return
        if base is not None and base.release_id == self.release.release_id:
            return
        self._wait_since(datetime.fromisoformat(now["tags"]["moved_at"]))

    def _let_readers_learn(self) -> None:
        """Before the pointer leads readers into another space, wait until their registries know its views."""
        pointer = self.workspace.pointer()
        if pointer is not None and pointer["space_id"] != self.space_id:
            self._wait_since(self.repository.changed_at())

    def _wait_since(self, moment: datetime) -> None:
        """Wait until every copy of the registry that readers keep is younger than `moment`."""
        free = moment + timedelta(seconds=self.config.registry_ttl_s + 1)
        while (left := (free - datetime.now(UTC)).total_seconds()) > 0:
            self.check()
            sleep(min(left, 1.0))

    def _held(self) -> Live:
        return Live(release_id=self.release.release_id, online_store=self.repository.online_name)


def stored_views(release: Release, base: Release | None) -> dict[View, pa.Schema]:
    """The views that a release or its base has files of, with their stored columns.

    Raises UsageError where the release has no file of a view that is not optional.
    """
    found = {}
    for view in VIEWS:
        holder = next((one for one in (release, base) if one is not None and files_of(view, one)), None)
        if not view.optional and (holder is None or holder is not release):
            raise UsageError(f"release {release.release_id} has no {view.folder}", where=release.storage.uri)
        if holder is not None:
            wanted = [view.join_key, *view.columns, columns.RELEASE_ID, columns.ENCODED_AT]
            schema = holder.storage.dataset(view.folder).schema
            found[view] = pa.schema([schema.field(name) for name in wanted])
    return found


def _report(metrics: dict[str, Any], began: float) -> StageReport:
    rows = sum(count for name, count in metrics.items() if name.startswith("online_"))
    return StageReport(name="publish", seconds=round(monotonic() - began, 3), rows=rows, metrics=metrics)
