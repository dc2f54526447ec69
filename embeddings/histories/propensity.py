"""How likely each token's title was to be looked at where it was met: the lake's impressions beside the histories.

What members play is what they like among what they were shown. The propensity of a token is the rate at
which its place on the page (surface and position) is chosen from, relative to the best place, times how often its
title was shown, relative to the title shown most: the clipped inverse weighs targets (`foundation/weights.py`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.histories.snapshot import lake_input
from stores import schema
from stores.lake.contract import Lake
from stores.lake.repair import run_with_repair, translate_errors
from stores.lake.scan import ScanConfig, connect
from stores.lake.tables import IMPRESSIONS

if TYPE_CHECKING:
    import duckdb

_ATTRIBUTION_WINDOW_US = 1800 * 1_000_000
"""An impression leads to what begins within half an hour."""

_SHOWN_SQL = """CREATE OR REPLACE TEMP TABLE shown AS
    SELECT member_id, title_id, shown_at, coalesce(surface, '') AS surface, coalesce(position, 0) AS position
    FROM ({rows})
    WHERE wrong IS NULL AND member_id IS NOT NULL AND title_id IS NOT NULL AND shown_at <= {as_of}"""
_ATTRIBUTED_SQL = """CREATE OR REPLACE TEMP TABLE led AS SELECT t.token, s.surface, s.position, s.title_id
    FROM tokens t ASOF JOIN shown s ON t.member_id = s.member_id AND t.title_id = s.title_id AND t.begun >= s.shown_at
    WHERE t.begun - s.shown_at <= {within}"""
_POSITION_RATES_SQL = """CREATE OR REPLACE TEMP TABLE places AS
    SELECT surface, position, (coalesce(chosen, 0) + 1) / (looked + 10) AS rate
    FROM (SELECT surface, position, count(*) AS looked FROM shown GROUP BY ALL)
    LEFT JOIN (SELECT surface, position, count(*) AS chosen FROM led GROUP BY ALL) USING (surface, position)"""
_TITLES = "CREATE OR REPLACE TEMP TABLE titles AS SELECT title_id, count(*) AS often FROM shown GROUP BY title_id"
_PROPENSITY_SQL = """SELECT token, rate / (SELECT max(rate) FROM places) * often / (SELECT max(often) FROM titles)
        AS propensity
    FROM led JOIN places USING (surface, position) JOIN titles USING (title_id) ORDER BY token"""


def with_propensity(histories: pa.Table, lake: Lake, as_of: datetime, scan: ScanConfig) -> pa.Table:
    """The histories with a list column `propensity`, in (0, 1], null where no impression led to the token.

    The same histories where the lake has no impressions. Only what was shown up to `as_of` counts.
    """
    if lake.impressions is None:
        return histories
    lists = histories[schema.TITLE_ID].combine_chunks()
    tokens = pa.table(
        {
            "token": np.arange(len(lists.flatten())),
            schema.MEMBER_ID: histories[schema.MEMBER_ID].combine_chunks().take(pc.list_parent_indices(lists)),
            schema.TITLE_ID: lists.flatten(),
            "begun": histories["first_time"].combine_chunks().flatten().cast(pa.int64()),
        }
    )
    with translate_errors(lake), connect(lake, scan) as connection:
        connection.register("tokens", tokens)
        moment = round(as_of.timestamp() * 1e6)
        found = run_with_repair(connection, lake, (IMPRESSIONS,), lambda sound: _found(connection, sound, moment))
    values = np.full(len(tokens), np.nan)
    values[found["token"].to_numpy()] = found["propensity"].to_numpy()
    flat = pa.array(values, pa.float64(), from_pandas=True)
    return histories.append_column(schema.PROPENSITY, pa.ListArray.from_arrays(lists.offsets, flat))


def _found(connection: "duckdb.DuckDBPyConnection", lake: Lake, moment: int) -> pa.Table:
    """`token` and `propensity` of the tokens that an impression led to."""
    table = lake.tables[IMPRESSIONS]
    connection.execute(_SHOWN_SQL.format(rows=lake_input(lake, table).sql, as_of=moment))
    connection.execute(_ATTRIBUTED_SQL.format(within=_ATTRIBUTION_WINDOW_US))
    connection.execute(_POSITION_RATES_SQL)
    connection.execute(_TITLES)
    return connection.execute(_PROPENSITY_SQL).to_arrow_table()
