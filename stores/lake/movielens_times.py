"""Times of MovieLens files and of exports in their layout: numbers in any unit, or text.

Ratings begin in 1995, so that the size of a number says its unit: below 10^11 seconds (the year 5138), below 10^14
milliseconds, below 10^17 microseconds, else nanoseconds.
"""

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from stores.columns import TIME

_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Below each bound, how many microseconds a number counts."""
_TEXT = r"""
    SELECT CASE
        WHEN regexp_full_match(t, '-?[0-9]+') THEN 'n' || TRY_CAST(t AS BIGINT)
        WHEN regexp_full_match(t, '-?[0-9]+\.[0-9]+') THEN 'n' || TRY_CAST(floor(TRY_CAST(t AS DOUBLE)) AS BIGINT)
        ELSE CAST(epoch_us(coalesce(TRY_CAST(t AS TIMESTAMPTZ), try_strptime(t, '%d-%b-%Y'))) AS VARCHAR)
    END FROM (SELECT trim(text, ' "') AS t FROM texts)
"""


def times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers or texts as timestamps in UTC, null where one is no time between the years −290307 and 294246.

    Texts are ISO 8601, in UTC where they name no zone, dates such as 21-Nov-1995, or numbers.
    """
    if pat.is_integer(column.type):
        return _of_numbers(column)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("texts", pa.table({"text": column}))
        found = connection.execute(_TEXT).to_arrow_table().column(0).cast(pa.string())
    numeric = pc.fill_null(pc.starts_with(found, "n"), False)
    numbers = _of_numbers(pc.if_else(numeric, pc.utf8_slice_codeunits(found, 1, 30), None).cast(pa.int64()))
    moments = pc.if_else(numeric, None, found).cast(pa.int64()).cast(TIME)
    return pc.coalesce(numbers, moments)


def _of_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    size = pc.abs(pc.max_element_wise(column, -(2**63) + 1))
    micros = pc.divide(column, 1000)
    for bound, each in reversed(_UNITS):
        scaled = pc.multiply(pc.if_else(pc.less(size, bound), column, None), each)
        micros = pc.if_else(pc.less(size, bound), scaled, micros)
    return micros.cast(TIME)
