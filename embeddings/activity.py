"""How many members were active between two moments: who an incremental night has to encode."""

from datetime import datetime

from embeddings.histories_config import HistoriesConfig
from embeddings.snapshot import lake_input
from stores.lake.contract import Lake
from stores.lake.mending import attempt, reading
from stores.lake.scan import connect
from stores.lake.tables import INTERACTIONS


def active_members(lake: Lake, config: HistoriesConfig, since: datetime | None, until: datetime) -> int:
    """Members with an event after `since` (None: ever) up to `until`; one pass over two columns, nothing is judged.

    Raises StoreError where the lake cannot be read.
    """
    moments = [_micros(until), _micros(since or config.earliest)]
    with reading(lake), connect(lake, config.scan) as connection:

        def count(sound: Lake) -> int:
            events = lake_input(sound, sound.interactions).sql
            asked = f"SELECT count(DISTINCT member_id) FROM ({events}) WHERE event_time <= ? AND event_time > ?"
            found = connection.execute(asked, moments).fetchone()
            return int(found[0]) if found else 0

        return attempt(connection, lake, (INTERACTIONS,), count)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
