"""The journal of the pointer's moves: what a move set out to do, kept until all of it is done.

A move touches the offline history, the online store and the pointer, in this order. The journal is
written before the first and removed after the last, and every step can be repeated, so whatever was
interrupted is completed by doing all of it again. `live.json` beside it says which release the
views of each space hold, which is what the next difference starts from.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from stores.feast.feature_views import BLUE_SLOT, GREEN_SLOT
from stores.files.checksummed_json import dump_checksummed, read_checksummed, read_facts, validated
from stores.files.filesystem import Storage
from stores.releases.workspace import Workspace, promoted_at
from stores.settings import Settings

PUBLISH_JOURNAL = "journal/move.json"
PUBLISHED_STATE = "journal/live.json"
SLOT_SEPARATOR = "/"
UNKNOWN = {"online_store": ""}
"""No online store has this name, so that rows which are said to lie there count as lost."""
MIN_TIME_STEP = timedelta(milliseconds=1)
Verb = Literal["publish", "promote", "rollback"]
MOVE_CURE = (
    f"delete {PUBLISH_JOURNAL}, then samespace promote current (or promote RELEASE): it writes every online row again"
)
LIVE_CURE = f"delete {PUBLISHED_STATE}, then samespace promote current: it writes every online row again"


class PublishedState(Settings):
    """What the views of a space hold: which release, and in which online store."""

    release_id: str
    online_store: str


class SpacePlan(Settings):
    """What a move does in one space: bring the online views of a slot to the rows that a release has there.

    `base` is what the views of the space hold before it (None: nothing).
    """

    release_id: str
    space_id: str
    base: PublishedState | None
    slot: str = BLUE_SLOT


class PublishPlan(SpacePlan):
    """One move of the pointer, into the space of the release; `older` is what it does in older spaces.

    `name` is the stem of its history files, `effective_at` the moment from which the release counts as live.
    """

    event: Literal["published", "promoted"]
    previous: str | None
    name: str
    effective_at: AwareDatetime
    why: str = ""
    older: tuple[SpacePlan, ...] = ()
    verb: Verb = "publish"
    """What was asked for, so that the same command given again after an interruption is not done twice."""


def read_plan(workspace: Workspace) -> PublishPlan | None:
    """The move that was interrupted, or that another process is making; None otherwise. Raises CorruptError."""
    storage = workspace.storage
    return read_facts(storage, PUBLISH_JOURNAL, PublishPlan, MOVE_CURE) if storage.exists(PUBLISH_JOURNAL) else None


def write_plan(workspace: Workspace, move: PublishPlan) -> None:
    """Write the journal, before anything else is written."""
    workspace.storage.write(PUBLISH_JOURNAL, dump_checksummed(move.model_dump(mode="json")))


def close_plan(workspace: Workspace) -> None:
    """Remove the journal, after everything else is written."""
    workspace.storage.delete(PUBLISH_JOURNAL)


def effective_time(workspace: Workspace, after: datetime | None = None) -> datetime:
    """Now, or a tick after the last effective time where the clock was moved back: these times strictly increase."""
    earlier = [time + MIN_TIME_STEP for time in (promoted_at(workspace), after) if time is not None]
    return max([datetime.now(UTC), *earlier])


def published_state(storage: Storage, slot: str = "") -> dict[str, PublishedState]:
    """What the views hold, by space: their history, or the online rows of a slot."""
    kept = _read_live(storage)
    history = {name: held for name, held in kept.items() if SLOT_SEPARATOR not in name}
    if not slot:
        return history
    slots = {
        name.partition(SLOT_SEPARATOR)[0]: held
        for name, held in kept.items()
        if name.endswith(f"{SLOT_SEPARATOR}{slot}")
    }
    return {**history, **slots} if slot == BLUE_SLOT else slots


def set_published_state(
    storage: Storage, space_id: str, now: PublishedState, slot: str = BLUE_SLOT, history: bool = True
) -> None:
    """Record that the rows of a slot, and unless told otherwise the history of its space, have come to a release."""
    names = [f"{space_id}{SLOT_SEPARATOR}{slot}", *([space_id] if history else [])]
    _write_live(storage, _read_live(storage) | dict.fromkeys(names, now))


def forget_rows(storage: Storage, space_id: str, slot: str) -> None:
    """Record that nobody knows the rows of a slot any more: whoever writes it next writes all of them."""
    if held := published_state(storage, slot).get(space_id):
        set_published_state(storage, space_id, held.model_copy(update=UNKNOWN), slot, history=False)


def abandon(storage: Storage, move: SpacePlan) -> None:
    """Record that a move did not happen in a space: the history is where it was, and nobody knows the slot's rows."""
    place, held = f"{move.space_id}{SLOT_SEPARATOR}{move.slot}", published_state(storage, move.slot).get(move.space_id)
    facts = {name: fact for name, fact in _read_live(storage).items() if name not in (move.space_id, place)}
    if move.base is not None:
        facts[move.space_id] = move.base
        if held is not None:
            rows = move.base if held.release_id == move.release_id else held
            facts[place] = rows.model_copy(update=UNKNOWN)
    _write_live(storage, facts)


def published_slots(storage: Storage) -> dict[tuple[str, str], PublishedState]:
    """What every slot of every space holds, by (space, slot)."""
    return {
        (name, slot): held for slot in (BLUE_SLOT, GREEN_SLOT) for name, held in published_state(storage, slot).items()
    }


def published_releases(storage: Storage) -> set[str]:
    """Ids of all releases that some view holds."""
    return {held.release_id for held in _read_live(storage).values()}


def _read_live(storage: Storage) -> dict[str, PublishedState]:
    """What `live.json` says, by space and by space and slot. Raises CorruptError for a damaged one."""
    found = read_checksummed(storage, PUBLISHED_STATE, LIVE_CURE) if storage.exists(PUBLISHED_STATE) else {}
    return {
        name: validated(_facts(held), PublishedState, PUBLISHED_STATE, storage.uri, LIVE_CURE)
        for name, held in found.items()
    }


def _facts(held: object) -> dict[str, object]:
    return held if isinstance(held, dict) else {"": held}


def _write_live(storage: Storage, held: dict[str, PublishedState]) -> None:
    storage.write(PUBLISHED_STATE, dump_checksummed({name: one.model_dump() for name, one in held.items()}))
