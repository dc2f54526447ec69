"""What a night will take: time from how long the last nights took, memory, disk and cost.

Each stage has a fixed part (processes that start, libraries that load), longer on a slower machine, and a part in
proportion to its work. The second follows from the nights of this workspace that were timed (`timed` among a release's
events), stage by stage, the median of the last three; a workspace without one gets the figures of two cores.
"""

import os
from statistics import median
from typing import Any

from pydantic import Field

from stores.release import Release, StageReport
from stores.settings import Settings

TIMED = "timed"
NIGHTS = 3
_CARRIED = 0.05
"""What carrying a member costs, in members encoded."""
_WORKER_MB, _DRIVER_MB, _TOKEN_BYTES = 650, 900, 400
_LEAST = 0.05


class PlanConfig(Settings):
    """What the machines cost: price of a node for an hour, in any currency, and how many nodes a night uses."""

    price_per_node_hour: float = Field(default=0.0, ge=0)
    nodes: int = Field(default=1, ge=1)


class Work(Settings):
    """How much a night has to do: rows read, members to encode and to carry forward, titles, shards to do."""

    events: int
    members: int
    encoded: int
    carried: int
    titles: int
    shards: int
    tokens_per_member: float = 50.0

    def units(self) -> dict[str, float]:
        """The work of each stage in the unit that its time is in proportion to."""
        rows = self.members + self.titles
        encode = self.encoded + _CARRIED * self.carried
        return {
            "histories": float(self.events),
            "encode": encode * self.tokens_per_member,
            "align": float(rows),
            "gate_vectors": float(rows),
            "index": float(self.titles),
            "publish": self.encoded + self.titles + _CARRIED * self.carried,
        }


FIXED = {
    "histories": 0.2,
    "gate_input": 3.5,
    "encode": 4.8,
    "compare": 0.0,
    "align": 2.0,
    "gate_vectors": 0.4,
    "index": 0.2,
    "gate_index": 0.1,
    "publish": 4.0,
    "canary": 0.2,
    "rest": 6.0,
}
"""Seconds of each stage on next to nothing; `rest` is the start of the cluster and the report."""
RATES = {"histories": 1e-6, "encode": 2.5e-6, "align": 5e-6, "gate_vectors": 5e-6, "index": 1e-4, "publish": 3e-5}
"""Seconds for one unit on two cores."""


class Estimate(Settings):
    """What a night will take. Memory is the sum over its processes, disk what the release adds."""

    stages: dict[str, float]
    seconds: float
    memory_mb: int
    disk_mb: int
    cost: float
    nights: int


def estimate(work: Work, earlier: list[Release], config: PlanConfig, workers: int) -> Estimate:
    """The estimate of a night from the releases before it, newest first."""
    timed = [event for release in earlier if (event := timing(release))][:NIGHTS]
    units = work.units()
    stages = {name: round(_seconds(name, units.get(name, 0.0), timed), 2) for name in FIXED}
    seconds = sum(stages.values())
    return Estimate(
        stages=stages,
        seconds=round(seconds, 1),
        memory_mb=_memory(work, workers),
        disk_mb=_disk(work, earlier),
        cost=round(seconds / 3600 * config.nodes * config.price_per_node_hour, 4),
        nights=len(timed),
    )


def note(release: Release, work: Work, expected: Estimate, reports: list[StageReport], seconds: float) -> None:
    """Append what a night was expected to take and took to the events of its release."""
    took = {report.name: report.seconds for report in reports}
    took["rest"] = round(max(0.0, seconds - sum(took.values())), 3)
    facts = {"work": work.model_dump(mode="json"), "expected": expected.model_dump(mode="json")}
    release.add_event(TIMED, seconds=round(seconds, 3), stages=took, **facts)


def timing(release: Release) -> dict[str, Any] | None:
    """How long a night took stage by stage, and its work; None where it was not timed (it was resumed, say)."""
    return next((event for event in release.events() if event["event"] == TIMED), None)


def _seconds(stage: str, units: float, timed: list[dict[str, Any]]) -> float:
    found = [_scaled(stage, units, night) for night in timed if stage in night["stages"]]
    return median(found) if found else FIXED[stage] + RATES.get(stage, 0.0) * units


def _scaled(stage: str, units: float, night: dict[str, Any]) -> float:
    """The time of a stage of another night, its part beyond the fixed one in proportion to the work."""
    took = float(night["stages"][stage])
    before = Work.model_validate(night["work"]).units().get(stage, 0.0)
    if not before:
        return took
    fixed = min(FIXED[stage] * _slowness(night), took)
    return fixed + (took - fixed) * units / before


def _slowness(night: dict[str, Any]) -> float:
    """By how much a machine took longer for fixed parts than those of FIXED: stages that have no other tell it."""
    units = Work.model_validate(night["work"]).units()
    alone = {name: seconds for name, seconds in night["stages"].items() if name in FIXED and name not in units}
    usual = sum(FIXED[name] for name in alone)
    return float(sum(alone.values())) / usual if usual else 1.0


def _memory(work: Work, workers: int) -> int:
    """Processes, and in each worker two shards of histories."""
    shard = work.members / max(work.shards, 1) * work.tokens_per_member * _TOKEN_BYTES
    return round(_DRIVER_MB + workers * (_WORKER_MB + 2 * shard / 2**20))


def _disk(work: Work, earlier: list[Release]) -> int:
    """The files of the last release, in proportion to the members; without one, 64 floats and the tokens."""
    for release in earlier:
        files = release.manifest.files
        members = sum(entry.rows for entry in files if entry.path.startswith("members/"))
        if members:
            return round(sum(entry.bytes for entry in files) * max(work.members / members, _LEAST) / 2**20)
    return round(work.members * (300 + 40 * work.tokens_per_member) / 2**20)


def processors(workers: int | None) -> int:
    """Workers of a night: as configured, else one for each processor."""
    return workers or os.cpu_count() or 1
