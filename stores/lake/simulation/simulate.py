"""`simulate`: write a streaming service with planted tastes as a lake.

One file per day and block of members is made and written before the next begins, so memory grows with
members and titles, never with days or events. The truth goes to `_truth/` beside the tables.
"""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from stores.files.filesystem import Storage
from stores.files.parquet import parquet_bytes
from stores.lake.simulation import catalogue as catalogue_module
from stores.lake.simulation import members as people
from stores.lake.simulation.behaviour import Day
from stores.lake.simulation.config import SimulationConfig
from stores.lake.simulation.corruption import Corrupter
from stores.lake.simulation.slate_policy import SlatePolicy
from stores.lake.writer import create_lake, write_part
from stores.progress import Progress

__all__ = ["SimulationConfig", "simulate"]

BLOCK = 100_000
"""Members simulated at once; bounds the rows that are in memory."""


def simulate(out: str, config: SimulationConfig) -> dict[str, int]:
    """Write a simulated streaming service to `out` (a folder or `s3://bucket/prefix`).

    Besides the tables of the contract it writes `_truth/members.parquet` (tastes at the first and the last
    day), `_truth/titles.parquet` (cluster, franchise, next part) and `_truth/broken.parquet` (how many rows of each
    kind were broken). The same configuration always gives the same bytes. `titles/` is written last: a
    lake without it is one whose simulation did not finish.

    Returns the number of rows of `interactions`, `impressions`, `titles`, `members`, and of `broken`
    interactions. Raises UsageError where `out` is not empty.
    """
    storage = create_lake(out)
    catalogue = catalogue_module.plant_catalogue(config)
    audience = people.plant_members(config, int(catalogue.cluster.max()) + 1)
    write_part(storage, "members", 0, people.member_table(audience))
    storage.write("_truth/members.parquet", parquet_bytes(people.truth_table(config, audience)))
    storage.write("_truth/titles.parquet", parquet_bytes(catalogue_module.truth_table(catalogue)))
    breaker = Corrupter(config.broken, config.seed)
    day = Day(config, catalogue, audience, people.Memory.empty(config.members))
    counts = _write_days(storage, config, day, breaker)
    storage.write("_truth/broken.parquet", parquet_bytes(breaker.truth_table()))
    write_part(storage, "titles", 0, catalogue_module.title_table(config, catalogue))
    return {**counts, "titles": config.titles, "members": config.members, "broken": sum(breaker.counts.values())}


def _write_days(storage: Storage, config: SimulationConfig, stage: Day, breaker: Corrupter) -> dict[str, int]:
    counts = {"interactions": 0, "impressions": 0}
    blocks = np.array_split(np.arange(config.members), -(-config.members // BLOCK))
    with Progress("simulate", config.days * config.members, "member days") as progress:
        for day in range(config.days):
            policy = SlatePolicy(stage.catalogue, day)
            for block, members in enumerate(blocks):
                rng = np.random.default_rng([config.seed, 4, day, block])
                events, impressions = stage.play(rng, policy, day, members)
                interactions = breaker(events.table(stage.audience, config.first_day, day))
                shown = impressions.table(config.first_day, day)
                for name, rows in (("interactions", interactions), ("impressions", shown)):
                    counts[name] += _write_block(storage, name, config.first_day + day, block, rows)
                progress.advance(len(members))
    wrong = breaker.wrong_type_table()
    if wrong is not None:
        counts["interactions"] += _write_block(storage, "interactions", config.first_day + day, len(blocks), wrong)
    return counts


def _write_block(storage: Storage, table: str, day: int, block: int, rows: pa.Table) -> int:
    """Write the rows of a day, in days since 1970, where there are any; return how many."""
    if rows.num_rows:
        write_part(storage, f"{table}/date={date(1970, 1, 1) + timedelta(days=day)}", block, rows)
    return int(rows.num_rows)
