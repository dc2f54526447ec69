"""A simulated service as its lake looks night after night: events arrive, titles launch, titles and members leave.

Everything is simulated once, tastes drifting all along; a night's lake is what of it was known by then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from stores.lake.simulation.config import END
from stores.lake.simulation.simulate import SimulationConfig, simulate

BEFORE, AFTER = 40, 3
"""Days of events before the first night, and after the last one: what members do next is what they are asked for."""

LEAVING_EACH_NIGHT, NIGHTS_PER_TITLE = 0.005, 3
"""Share of the members who have their data removed each night; after so many nights a title's licence ends."""


@dataclass(frozen=True)
class Season:
    """The whole service as tables, and the night on which each member and each title leaves."""

    nights: int
    interactions: pa.Table
    titles: pa.Table
    members: pa.Table
    last_of_member: dict[int, int]
    last_of_title: dict[int, int]

    @classmethod
    def simulated(cls, folder: Path, nights: int, members: int, titles: int, seed: int) -> "Season":
        """Simulate the days of all nights into a folder, unless they are there."""
        days = BEFORE + nights + AFTER
        if not (folder / "titles").exists():
            simulate(str(folder), SimulationConfig(members=members, titles=titles, days=days, seed=seed))
        tables = [_read(folder / name) for name in ("interactions", "titles", "members")]
        random = np.random.default_rng([seed, 1])
        going = random.permutation(tables[2]["member_id"].to_numpy())
        each = max(1, round(LEAVING_EACH_NIGHT * members))
        ending = random.permutation(tables[1]["title_id"].to_numpy())
        leavers = {int(one): 2 + place // each for place, one in enumerate(going[: each * (nights - 1)])}
        ended = {
            int(one): NIGHTS_PER_TITLE * (place + 1) for place, one in enumerate(ending[: nights // NIGHTS_PER_TITLE])
        }
        return cls(nights, *tables, leavers, ended)

    def moment(self, night: int) -> datetime:
        """When a night, counted from 1, reads the lake."""
        return END - timedelta(days=AFTER + self.nights - night)

    def write_lake(self, night: int, folder: Path) -> None:
        """The lake of a night; what left is in none of its tables."""
        moment = self.moment(night)
        titles = self._there(self.titles, "title_id", self.last_of_title, night)
        titles = titles.filter(pc.fill_null(pc.less_equal(titles["launch_time"], moment), True))
        self._write(folder / "titles", titles)
        self._write(folder / "members", self._there(self.members, "member_id", self.last_of_member, night))
        events = self.events(night)
        self._write(folder / "interactions", events.filter(pc.less_equal(events["event_time"], moment)))

    def events(self, night: int) -> pa.Table:
        """All interactions, later ones too, of the members and titles that are there on a night."""
        events = self._there(self.interactions, "member_id", self.last_of_member, night)
        return self._there(events, "title_id", self.last_of_title, night)

    def next_plays(self, night: int) -> dict[int, list[int]]:
        """Titles that each member plays within `AFTER` days from a night on, first one first."""
        start, events = self.moment(night), self.events(night)
        later = pc.and_(pc.greater(events["event_time"], start), pc.equal(events["action"], "play"))
        soon = pc.less_equal(events["event_time"], start + timedelta(days=AFTER))
        plays = events.filter(pc.and_(later, soon)).sort_by("event_time")
        found: dict[int, list[int]] = {}
        for member, title in zip(plays["member_id"].to_pylist(), plays["title_id"].to_pylist(), strict=True):
            found.setdefault(member, []).append(title)
        return found

    @staticmethod
    def _there(table: pa.Table, column: str, last: dict[int, int], night: int) -> pa.Table:
        gone = pa.array([one for one, number in last.items() if number <= night], pa.int64())
        return table.filter(pc.invert(pc.is_in(table[column], value_set=gone)))

    @staticmethod
    def _write(folder: Path, table: pa.Table) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "part-00000.parquet")


def without_most_days(lake: Path) -> None:
    """What an export that lost its partitions leaves: one event in five."""
    path = lake / "interactions" / "part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array(np.arange(table.num_rows) % 5 == 0)), path)


def _read(folder: Path) -> pa.Table:
    table = ds.dataset(folder, partitioning="hive", exclude_invalid_files=False).to_table()
    return table.drop_columns(["date"]) if "date" in table.column_names else table
