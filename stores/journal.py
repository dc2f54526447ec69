"""The journal of the pointer's moves: what a move set out to do, kept until all of it is done.

A move touches the offline history, the online store and the pointer, in this order. The journal is
written before the first and removed after the last, and every step can be repeated, so whatever was
interrupted is completed by doing all of it again. `live.json` beside it says which release the
views of each space hold, which is what the next difference starts from.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from stores.checked_json import checked, read_checked, read_facts, validated
from stores.features.views import BLUE, GREEN
from stores.pointer import promoted_at
from stores.settings import Settings
from stores.storage import Storage
from stores.workspace import Workspace

MOVE = "journal/move.json"
LIVE = "journal/live.json"
SLOT = "/"
UNKNOWN = {"online_store": ""}
"""No online store has this name, so that rows which are said to lie there count as lost."""
TICK = timedelta(milliseconds=1)
Verb = Literal["publish", "promote", "rollback"]
MOVE_CURE = f"delete {MOVE}, then samespace promote current (or promote RELEASE): it writes every online row again"
LIVE_CURE = f"delete {LIVE}, then samespace promote current: it writes every online row again"


class Live(Settings):
    """What the views of a space hold: which release, and in which online store."""

    release_id: str
    online_store: str


class SpaceMove(Settings):
    """What a move does in one space: bring the online views of a slot to the rows that a release has there.

    `base` is what the views of the space hold before it (None: nothing).
    """

    release_id: str
    space_id: str
    base: Live | None
    slot: str = BLUE


class Move(SpaceMove):
    """One move of the pointer, into the space of the release; `older` is what it does in older spaces.

    `name` is the stem of its history files, `effective_at` the moment from which the release counts as live.
    """

    event: Literal["published", "promoted"]
    previous: str | None
    name: str
    effective_at: AwareDatetime
    why: str = ""
    older: tuple[SpaceMove, ...] = ()
    verb: Verb = "publish"
    """What was asked for, so that the same command given again after an interruption is not done twice."""


def read_move(workspace: Workspace) -> Move | None:
    """The move that was interrupted, or that another process is making; None otherwise. Raises CorruptError."""
    storage = workspace.storage
    return read_facts(storage, MOVE, Move, MOVE_CURE) if storage.exists(MOVE) else None


def write_move(workspace: Workspace, move: Move) -> None:
    """Write the journal, before anything else is written."""
    workspace.storage.write(MOVE, checked(move.model_dump(mode="json")))


def close_move(workspace: Workspace) -> None:
    """Remove the journal, after everything else is written."""
    workspace.storage.delete(MOVE)


def effective_time(workspace: Workspace, after: datetime | None = None) -> datetime:
    """Now, or a tick after the last effective time where the clock was moved back: these times strictly increase."""
    earlier = [time + TICK for time in (promoted_at(workspace), after) if time is not None]
    return max([datetime.now(UTC), *earlier])


def live(storage: Storage, slot: str = "") -> dict[str, Live]:
    """What the views hold, by space: their history, or the online rows of a slot."""
    kept = _read_live(storage)
    history = {name: held for name, held in kept.items() if SLOT not in name}
    if not slot:
        return history
    slots = {name.partition(SLOT)[0]: held for name, held in kept.items() if name.endswith(f"{SLOT}{slot}")}
    return {**history, **slots} if slot == BLUE else slots


def set_live(storage: Storage, space_id: str, now: Live, slot: str = BLUE, history: bool = True) -> None:
    """Record that the rows of a slot, and unless told otherwise the history of its space, have come to a release."""
    names = [f"{space_id}{SLOT}{slot}", *([space_id] if history else [])]
    _write_live(storage, _read_live(storage) | dict.fromkeys(names, now))


def forget_rows(storage: Storage, space_id: str, slot: str) -> None:
    """Record that nobody knows the rows of a slot any more: whoever writes it next writes all of them."""
    if held := live(storage, slot).get(space_id):
        set_live(storage, space_id, held.model_copy(update=UNKNOWN), slot, history=False)


def give_up(storage: Storage, move: SpaceMove) -> None:
    """Record that a move did not happen in a space: the history is where it was, and nobody knows the slot's rows."""
    place, held = f"{move.space_id}{SLOT}{move.slot}", live(storage, move.slot).get(move.space_id)
    facts = {name: fact for name, fact in _read_live(storage).items() if name not in (move.space_id, place)}
    if move.base is not None:
        facts[move.space_id] = move.base
        if held is not None:
            rows = move.base if held.release_id == move.release_id else held
            facts[place] = rows.model_copy(update=UNKNOWN)
    _write_live(storage, facts)


def held_slots(storage: Storage) -> dict[tuple[str, str], Live]:
    """What every slot of every space holds, by (space, slot)."""
    return {(name, slot): held for slot in (BLUE, GREEN) for name, held in live(storage, slot).items()}


def held_releases(storage: Storage) -> set[str]:
    """Ids of all releases that some view holds."""
    return {held.release_id for held in _read_live(storage).values()}


def _read_live(storage: Storage) -> dict[str, Live]:
    """What `live.json` says, by space and by space and slot. Raises CorruptError for a damaged one."""
    found = read_checked(storage, LIVE, LIVE_CURE) if storage.exists(LIVE) else {}
    return {name: validated(_facts(held), Live, LIVE, storage.uri, LIVE_CURE) for name, held in found.items()}


def _facts(held: object) -> dict[str, object]:
    return held if isinstance(held, dict) else {"": held}


def _write_live(storage: Storage, held: dict[str, Live]) -> None:
    storage.write(LIVE, checked({name: one.model_dump() for name, one in held.items()}))
