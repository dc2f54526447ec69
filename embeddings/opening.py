"""Opening a snapshot: of a lake, whose files may turn out to be unreadable, or of tables in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from embeddings.histories_config import HistoriesConfig
from embeddings.snapshot import Moment, Snapshot, lake_input, memory_input
from stores.columns import MEMBER_ID, TITLE_ID
from stores.errors import StoreError
from stores.lake.contract import Lake, id_type_of
from stores.lake.scan import connect
from stores.lake.tables import INTERACTIONS, TITLES
from stores.s3 import is_outage, outage
from stores.suppression import Suppression

if TYPE_CHECKING:
    import duckdb


@contextmanager
def open_snapshot(
    lake: Lake, moment: Moment, config: HistoriesConfig, erased: Suppression | None = None
) -> Iterator[Snapshot]:
    """The judged snapshot of a lake, without the members that were erased.

    Raises StoreError where DuckDB cannot go on (memory, disk, the store).
    """
    import duckdb

    with connect(lake, config.scan) as connection:
        try:
            yield _judge(lake, lambda sound: _of_lake(connection, sound, moment, config, erased))
        except (duckdb.Error, OSError) as error:
            if is_outage(error):
                raise outage(lake.storage.uri, "", error) from error
            raise StoreError(
                f"reading the lake failed: {error}",
                where=lake.storage.uri,
                fix="check free disk space for temporary files, histories.scan.memory_limit, and that the files stay",
            ) from error


def _judge(lake: Lake, judge: Callable[[Lake], Snapshot]) -> Snapshot:
    """Judge a lake; if a file's pages turn out to be corrupt, once more without the files that are."""
    import duckdb

    try:
        return judge(lake)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        sound = lake.without_corrupt(INTERACTIONS).without_corrupt(TITLES)
        if (sound.interactions.files, sound.titles.files) == (lake.interactions.files, lake.titles.files):
            raise
        return judge(sound)


def _of_lake(
    connection: "duckdb.DuckDBPyConnection",
    lake: Lake,
    moment: Moment,
    config: HistoriesConfig,
    erased: Suppression | None,
) -> Snapshot:
    interactions, titles = lake_input(lake, lake.interactions), lake_input(lake, lake.titles)
    return Snapshot(connection, interactions, titles, moment, config, erased)


@contextmanager
def memory_snapshot(
    interactions: pa.Table, titles: pa.Table | None, moment: Moment, config: HistoriesConfig
) -> Iterator[Snapshot]:
    """The judged snapshot of tables in memory; without `titles` every title that occurs is one."""
    if titles is None:
        titles = pa.table({TITLE_ID: interactions[TITLE_ID].unique()})
    ids = {
        MEMBER_ID: id_type_of([(interactions.schema.field(MEMBER_ID).type, 1)]),
        TITLE_ID: id_type_of([(titles.schema.field(TITLE_ID).type, 1)]),
    }
    with connect(None, config.scan) as connection:
        events = memory_input(connection, INTERACTIONS, interactions, ids)
        yield Snapshot(connection, events, memory_input(connection, TITLES, titles, ids), moment, config)
