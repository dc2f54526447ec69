"""Opening a snapshot: of a lake, whose files may turn out to be unreadable, or of tables in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from embeddings.histories_config import HistoriesConfig
from embeddings.snapshot import Moment, Snapshot, lake_input, memory_input
from stores.columns import MEMBER_ID, TITLE_ID
from stores.lake.contract import Lake, id_type_of
from stores.lake.mending import attempt, reading
from stores.lake.scan import connect
from stores.lake.tables import INTERACTIONS, TITLES
from stores.suppression import Suppression

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
_READ = (INTERACTIONS, TITLES)


def with_snapshot(
    lake: Lake, moment: Moment, config: HistoriesConfig, erased: Suppression | None, work: Callable[[Snapshot], T]
) -> T:
    """`work` on the judged snapshot of a lake, without the members that were erased.

    A column that only `work` reads may hold what DuckDB stops at; then the files are mended and `work` begins anew:
    what it wrote is written again. Raises StoreError where DuckDB cannot go on (memory, disk, the store).
    """
    with reading(lake), connect(lake, config.scan) as connection:
        return attempt(connection, lake, _READ, lambda sound: work(_of_lake(connection, sound, moment, config, erased)))


@contextmanager
def open_snapshot(
    lake: Lake, moment: Moment, config: HistoriesConfig, erased: Suppression | None = None
) -> Iterator[Snapshot]:
    """The same for a block of code: what stops DuckDB in the block itself is a StoreError."""
    with reading(lake), connect(lake, config.scan) as connection:
        yield attempt(connection, lake, _READ, lambda sound: _of_lake(connection, sound, moment, config, erased))


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
