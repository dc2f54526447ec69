"""The views of one space, brought to the rows that a release has there: history, online store, feature services.

With one slot changed rows are overwritten in place, which readers of one space cannot tell apart; with two the idle
slot is brought to the release and the feature services move to it in one write of the registry.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import sleep

import pyarrow as pa

from stores.errors import CorruptError, UsageError
from stores.feast.feature_views import BLUE_SLOT, GREEN_SLOT, VIEWS, FeatureViewSpec, history_schema
from stores.feast.offline_store import beginning_rows, history_path, history_rows, write_history
from stores.feast.online_store import OnlineStoreWriter, WriteContext
from stores.feast.release_diff import DiffCache, files_of, release_in_views
from stores.feast.repository import FeatureRepository, PublishConfig, embedding_service, with_services, with_views
from stores.publishing.journal import PublishedState, SpacePlan, published_state, set_published_state
from stores.releases.lease import check_token
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.schema import ENCODED_AT, RELEASE_ID

Schemas = dict[FeatureViewSpec, pa.Schema]


class SpacePublisher:
    """All of Feast that belongs to one space; `release` is what it is brought to, as that space sees it."""

    def __init__(self, workspace: Workspace, release: Release, config: PublishConfig) -> None:
        self.workspace, self.release, self.config = workspace, release, config
        self.repository = FeatureRepository(workspace.storage, config)
        self.space_id = release.space_id
        self._differences = DiffCache()

    def check(self) -> None:
        """Raise BusyError once another command has taken the workspace."""
        if self.release.token is not None:
            check_token(self.workspace.storage, self.release.token)

    def plan(self) -> SpacePlan:
        """What bringing the views to the release means, from what they hold now."""
        base = published_state(self.workspace.storage).get(self.space_id)
        return SpacePlan(release_id=self.release.release_id, space_id=self.space_id, base=base, slot=self._slot())

    def is_published(self) -> bool:
        """Whether what consumers read is the release's already, in this online store."""
        return all(
            published_state(self.workspace.storage, place).get(self.space_id) == self._live()
            for place in ("", self.serving())
        )

    def serving(self) -> str:
        """The slot that consumers read."""
        now = embedding_service(self.repository.described(), self.space_id)
        return BLUE_SLOT if self.config.slots == 1 or now is None else str(now["slot"])

    def write_history(self, move: SpacePlan, name: str, at: datetime) -> dict[str, int]:
        """Append what changed since `move.base` to the history; the rows of each view."""
        base, written = self._base(move.base), {}
        for view, stored in stored_views(self.release, base).items():
            tables = self._history_tables(view, base, at)
            path, schema = history_path(view, self.space_id, name), history_schema(view, stored)
            written[view.folder] = write_history(self.workspace.storage, path, schema, tables, self.check)
        return written

    def write_online(self, slot: str, at: datetime, everything: bool = False) -> dict[str, int]:
        """Bring a slot from what it holds to the release; the rows written and removed of each view."""
        held = published_state(self.workspace.storage, slot).get(self.space_id)
        elsewhere = held is None or held.online_store != self.repository.online_name
        base = self._base(None if elsewhere or everything else held)
        found = stored_views(self.release, None) | (stored_views(base, None) if base else {})
        self._register(found, slot)
        if not everything:
            self._let_readers_leave(held, slot)
        moment, place = WriteContext(at, self.check), (self.space_id, slot)
        with OnlineStoreWriter(self.repository, [view.view(*place) for view in found]) as views:
            return {
                v.folder: views.write(v, place, self._differences.between(v, base, self.release), moment) for v in found
            }

    def record(self, slot: str, history: bool = True) -> None:
        """Note that a slot, and the history, have come to the release."""
        set_published_state(self.workspace.storage, self.space_id, self._live(), slot, history)

    def switch_services(self, move: SpacePlan) -> None:
        """Move the services of two slots; with one slot they never move."""
        if self.config.slots == 1:
            return
        slot, now = move.slot, datetime.now(UTC).isoformat()
        tags = {"release_id": self.release.release_id, "space_id": self.space_id, "moved_at": now}
        current = embedding_service(self.repository.described(), self.space_id)
        if current is None or (current["slot"], current["tags"].get("release_id")) != (slot, tags["release_id"]):
            views = list(stored_views(self.release, self._base(move.base)))
            self.repository.update(lambda described: with_services(described, views, self.space_id, slot, tags))

    def wait_since(self, moment: datetime) -> None:
        """Wait until every copy of the registry that readers keep is younger than `moment`."""
        free = moment + timedelta(seconds=self.config.registry_ttl_s + 1)
        while (left := (free - datetime.now(UTC)).total_seconds()) > 0:
            self.check()
            sleep(min(left, 1.0))

    def _slot(self) -> str:
        """The slot to bring to the release: the only one, or of two the one that no service reads."""
        now = embedding_service(self.repository.described(), self.space_id)
        if self.config.slots == 1 or now is None:
            return BLUE_SLOT
        return GREEN_SLOT if now["slot"] == BLUE_SLOT else BLUE_SLOT

    def _base(self, held: PublishedState | None) -> Release | None:
        """The release that views hold; None where they hold none, and where its manifest cannot be read any more."""
        try:
            return release_in_views(self.workspace, held.release_id, self.space_id) if held else None
        except CorruptError:
            return None

    def _history_tables(self, view: FeatureViewSpec, base: Release | None, at: datetime) -> Iterator[pa.Table]:
        for part in self._differences.between(view, base, self.release):
            if self.repository.offline_kind == "dask":
                yield beginning_rows(view, part)
            yield history_rows(view, self.space_id, at, part)

    def _register(self, found: Schemas, slot: str) -> None:
        def amend(described: dict[str, object]) -> dict[str, object]:
            described = with_views(described, found, self.space_id, self.config.slots)
            if self.config.slots == 2 or slot == GREEN_SLOT:
                return described
            return with_services(described, list(found), self.space_id, slot, {})

        self.repository.update(amend)

    def _let_readers_leave(self, held: PublishedState | None, slot: str) -> None:
        """Wait until no reader's copy of the registry can point to the idle slot any more, if rows there change."""
        now = embedding_service(self.repository.described(), self.space_id)
        if self.config.slots == 1 or now is None or now["slot"] == slot or "moved_at" not in now["tags"]:
            return
        if held is None or held.release_id == self.release.release_id:  # no service ever led there, or no row changes
            return
        self.wait_since(datetime.fromisoformat(now["tags"]["moved_at"]))

    def _live(self) -> PublishedState:
        return PublishedState(release_id=self.release.release_id, online_store=self.repository.online_name)


def stored_views(release: Release, base: Release | None) -> Schemas:
    """The views that a release or its base has files of, with their stored columns.

    Raises UsageError where the release has no file of a view that is not optional.
    """
    found = {}
    for view in VIEWS:
        holder = next((one for one in (release, base) if one is not None and files_of(view, one)), None)
        if not view.optional and (holder is None or holder is not release):
            raise UsageError(f"release {release.release_id} has no {view.folder}", where=release.storage.uri)
        if holder is not None:
            wanted = [view.join_key, *view.columns, RELEASE_ID, ENCODED_AT]
            schema = holder.schema(view.folder)
            found[view] = pa.schema([schema.field(name) for name in wanted])
    return found
