"""Rows that break the contract, on request: a share of the interactions is turned into bad ones of many kinds."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stores import schema
from stores.lake.simulation.catalogue import Ints
from stores.lake.simulation.config import END

CORRUPTION_KINDS = (
    "null_member",
    "null_title",
    "null_time",
    "unknown_action",
    "future_time",
    "negative_duration",
    "unknown_title",
    "epoch_time",
    "duplicate",
    "wrong_type",
)
"""In the order in which they are dealt out."""

MAX_WRONG_TYPE_ROWS = 10_000
"""They wait in memory for their own file; once there are so many, other kinds take their turn."""

_FUTURE = pa.scalar(END.replace(year=END.year + 30), schema.TIMESTAMP_TYPE)
_EPOCH = pa.scalar(0, pa.int64()).cast(schema.TIMESTAMP_TYPE)
UNKNOWN_TITLE = 10**12


class Corrupter:
    """Breaks a share of the rows that pass through; `share` 0 breaks none.

    `counts` says how many of each kind there are so far, `wrong_types` holds the rows that were taken
    out because their columns have another type: they need a file of their own.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share = share
        self.rng = np.random.default_rng([seed, 5])
        self.counts: Counter[str] = Counter()
        self.wrong_types: list[pa.Table] = []
        self._rows = self._dealt = 0

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows with some of them broken; wrong types are taken out and kept."""
        self._rows += rows.num_rows
        due = min(int(self.share * self._rows) - sum(self.counts.values()), rows.num_rows)
        if due <= 0:
            return rows
        chosen = self.rng.permutation(rows.num_rows)[:due]
        kinds = self._deal(due, sound=rows.num_rows - due)
        self.counts.update(CORRUPTION_KINDS[kind] for kind in kinds)
        broken = {name: np.sort(chosen[kinds == number]) for number, name in enumerate(CORRUPTION_KINDS)}
        return self._break(rows, broken)

    def _deal(self, count: int, sound: int) -> Ints:
        """A kind for each of `count` rows, in turns; `sound` rows stay whole and can be duplicated."""
        kinds = (self._dealt + np.arange(count)) % len(CORRUPTION_KINDS)
        self._dealt += count
        impossible = [CORRUPTION_KINDS.index("duplicate")] if sound == 0 else []
        if self.counts["wrong_type"] + count > MAX_WRONG_TYPE_ROWS:
            impossible.append(CORRUPTION_KINDS.index("wrong_type"))
        return np.where(np.isin(kinds, impossible), CORRUPTION_KINDS.index("null_member"), kinds)

    def _break(self, rows: pa.Table, broken: dict[str, Ints]) -> pa.Table:
        whole = np.setdiff1d(np.arange(rows.num_rows), np.concatenate(list(broken.values())))
        rows = _overwrite(rows, schema.MEMBER_ID, broken["null_member"], None)
        rows = _overwrite(rows, schema.TITLE_ID, broken["null_title"], None)
        rows = _overwrite(rows, schema.TITLE_ID, broken["unknown_title"], UNKNOWN_TITLE)
        rows = _overwrite(rows, schema.EVENT_TIME, broken["null_time"], None)
        rows = _overwrite(rows, schema.EVENT_TIME, broken["future_time"], _FUTURE)
        rows = _overwrite(rows, schema.EVENT_TIME, broken["epoch_time"], _EPOCH)
        rows = _overwrite(rows, schema.ACTION, broken["unknown_action"], "teleport")
        rows = _overwrite(rows, schema.DURATION, broken["negative_duration"], -60.0)
        order = np.arange(rows.num_rows)
        if len(broken["duplicate"]):
            order[broken["duplicate"]] = self.rng.choice(whole, size=len(broken["duplicate"]))
        if len(broken["wrong_type"]):
            self.wrong_types.append(rows.take(broken["wrong_type"]))
            order = np.delete(order, broken["wrong_type"])
        return rows.take(order)

    def wrong_type_table(self) -> pa.Table | None:
        """The rows whose time or duration is text that cannot be read, in turns; None if there are none."""
        if not self.wrong_types:
            return None
        rows = pa.concat_tables(self.wrong_types)
        turn = pa.array(np.arange(rows.num_rows) % 2 == 0)
        times = pc.if_else(turn, "last Tuesday evening", pc.strftime(rows[schema.EVENT_TIME], "%Y-%m-%dT%H:%M:%SZ"))
        durations = pc.if_else(turn, rows[schema.DURATION].cast(pa.string()), "an hour or so")
        for name, texts in ((schema.EVENT_TIME, times), (schema.DURATION, durations)):
            rows = rows.set_column(rows.column_names.index(name), name, texts)
        return rows

    def truth_table(self) -> pa.Table:
        """How many rows of each kind were broken: kind, rows."""
        return pa.table(
            {
                "kind": list(CORRUPTION_KINDS),
                "rows": pa.array([self.counts[kind] for kind in CORRUPTION_KINDS], pa.int64()),
            }
        )


def _overwrite(rows: pa.Table, name: str, places: Ints, value: object) -> pa.Table:
    """The same rows with `value` in one column at some places."""
    if not len(places):
        return rows
    mask = np.zeros(rows.num_rows, np.bool_)
    mask[places] = True
    place = rows.column_names.index(name)
    kind = rows.schema.field(name).type
    fill = value if isinstance(value, pa.Scalar) else pa.scalar(value, kind)
    return rows.set_column(place, rows.schema.field(name), pc.if_else(pa.array(mask), fill, rows[name]))
