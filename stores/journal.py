"""The journal of the pointer's moves: what a move set out to do, kept until all of it is done.

A move touches the offline history, the online store and the pointer, in this order. The journal is
written before the first and removed after the last, and every step can be repeated, so whatever was
interrupted is completed by doing all of it again. `live.json` beside it says which release the
views of each space hold, which is what the next difference starts from.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Literal

from stores.features.views import BLUE, GREEN
from stores.pointer import promoted_at
from stores.settings import Settings
from stores.storage import Storage
from stores.workspace import Workspace

MOVE = "journal/move.json"
LIVE = "journal/live.json"
SLOT = "/"
TICK = timedelta(milliseconds=1)


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
    effective_at: datetime
    why: str = ""
    older: tuple[SpaceMove, ...] = ()


def read_move(workspace: Workspace) -> Move | None:
    """The move that was interrupted, or that another process is making; None otherwise."""
    storage = workspace.storage
    return Move.model_validate_json(storage.read(MOVE)) if storage.exists(MOVE) else None


def write_move(workspace: Workspace, move: Move) -> None:
    """Write the journal, before anything else is written."""
    workspace.storage.write(MOVE, move.model_dump_json(indent=1).encode())


def close_move(workspace: Workspace) -> None:
    """Remove the journal, after everything else is written."""
    workspace.storage.delete(MOVE)


def effective_time(workspace: Workspace, after: datetime | None = None) -> datetime:
    """Now, or a tick after the last effective time where the clock was moved back: these times strictly increase."""
    earlier = [time + TICK for time in (promoted_at(workspace), after) if time is not None]
    return max([datetime.now(UTC), *earlier])


def live(storage: Storage, slot: str = "") -> dict[str, Live]:
    """What the views hold, by space: their history, or the online rows of a slot."""
    found = json.loads(storage.read(LIVE)) if storage.exists(LIVE) else {}
    kept = {name: Live(**facts) for name, facts in found.items()}
    history = {name: held for name, held in kept.items() if SLOT not in name}
    if not slot:
        return history
    slots = {name.partition(SLOT)[0]: held for name, held in kept.items() if name.endswith(f"{SLOT}{slot}")}
    return {**history, **slots} if slot == BLUE else slots


def set_live(storage: Storage, space_id: str, now: Live, slot: str = BLUE, history: bool = True) -> None:
    """Record that the rows of a slot, and unless told otherwise the history of its space, have come to a release."""
    before = json.loads(storage.read(LIVE)) if storage.exists(LIVE) else {}
    names = [f"{space_id}{SLOT}{slot}", *([space_id] if history else [])]
    facts = before | dict.fromkeys(names, now.model_dump())
    storage.write(LIVE, json.dumps(facts, sort_keys=True).encode())


def held_slots(storage: Storage) -> dict[tuple[str, str], Live]:
    """What every slot of every space holds, by (space, slot)."""
    return {(name, slot): held for slot in (BLUE, GREEN) for name, held in live(storage, slot).items()}


def held_releases(storage: Storage) -> set[str]:
    """Ids of all releases that some view holds."""
    found = json.loads(storage.read(LIVE)) if storage.exists(LIVE) else {}
    return {facts["release_id"] for facts in found.values()}
