"""A preview of a night's input: judged as the night will judge it, its members counted, nothing kept.

Costs two passes over the events. Exact copies are counted by distinct hashes, without the sorting that making
histories takes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.job import require_sound
from embeddings.histories.quarantine import DUPLICATE, micros
from embeddings.histories.snapshot import Snapshot, SnapshotTime, with_snapshot
from stores.lake.contract import Lake
from stores.lake.scan import sql_identifier
from stores.lake.tables import INTERACTIONS
from stores.publishing.suppression_list import SuppressionList
from stores.schema import COUNTRY, DEVICE, DURATION, LOCALE, VALUE

_OPTIONAL = (DURATION, VALUE, DEVICE, COUNTRY, LOCALE)


@dataclass(frozen=True)
class Preview:
    """Members with an accepted event, and those with one after a moment."""

    members: int
    active: int


def preview(
    lake: Lake, as_of: datetime, since: datetime | None, config: HistoriesConfig, erased: SuppressionList | None = None
) -> Preview:
    """Judge a lake as of a moment and count the members that are active after `since` (None: ever).

    Raises as a night does: ContractError where too many rows are bad, NotFoundError where there is no event.
    """
    moment = SnapshotTime(as_of, datetime.now(UTC))
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _preview(snapshot, lake, since, erased))


def _preview(snapshot: Snapshot, lake: Lake, since: datetime | None, erased: SuppressionList | None) -> Preview:
    require_sound(snapshot, lake, erased)
    repeats = count_repeats(snapshot)
    if repeats:
        snapshot.refused[INTERACTIONS][DUPLICATE] = repeats
        require_sound(snapshot, lake)
    asked = f"SELECT count(*), count(*) FILTER (newest > {micros(since or BEGINNING_OF_TIME)}) FROM ({_MEMBERS})"
    members, active = _row(snapshot, asked)
    return Preview(members, active)


BEGINNING_OF_TIME = datetime(1, 1, 1, tzinfo=UTC)
_MEMBERS = "SELECT member_id, max(newest) AS newest FROM tally WHERE reason = 0 GROUP BY member_id"


def count_repeats(snapshot: Snapshot) -> int:
    """The accepted events that are exact copies of another one, in every column that the lake has."""
    optional = [sql_identifier(column) for column in _OPTIONAL if column in snapshot.interactions.present]
    whole = ", ".join(["member_id", "event_time", "title_code", "action_code", *optional])
    events = f"SELECT hash({whole}) AS whole FROM ({snapshot._interactions_sql}) WHERE reason = 0"
    accepted = _row(snapshot, "SELECT coalesce(sum(events), 0)::BIGINT FROM tally WHERE reason = 0")[0]
    return int(accepted - _row(snapshot, f"SELECT count(*) FROM (SELECT DISTINCT whole FROM ({events}))")[0])


def _row(snapshot: Snapshot, sql: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = snapshot.connection.execute(sql).fetchall()[0]
    return found
