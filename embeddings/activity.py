"""How many members were active between two moments: who an incremental night has to encode."""

from datetime import datetime

from embeddings.histories_config import HistoriesConfig
from embeddings.snapshot import lake_input
from stores.errors import StoreError
from stores.lake.contract import Lake
from stores.lake.scan import connect


def active_members(lake: Lake, config: HistoriesConfig, since: datetime | None, until: datetime) -> int:
    """Members with an event after `since` (None: ever) up to `until`; one pass over two columns, nothing is judged.

    Raises StoreError where the lake cannot be read.
    """
    import duckdb

    with connect(lake, config.scan) as connection:
        events = lake_input(lake, lake.interactions).sql
        asked = f"SELECT count(DISTINCT member_id) FROM ({events}) WHERE event_time <= ? AND event_time > ?"
        try:
            found = connection.execute(asked, [_micros(until), _micros(since or config.earliest)]).fetchone()
        except duckdb.Error as error:
            raise StoreError(f"reading the lake failed: {error}", where=lake.storage.uri) from error
    return int(found[0]) if found else 0


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
