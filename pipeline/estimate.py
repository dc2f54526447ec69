"""Estimate what a night takes: time from the last nights, memory, disk and cost.

Each stage has a fixed part (processes that start, libraries that load), longer on a slower machine, and a part in
proportion to its work. The second follows from the nights of this workspace that were timed (`timed` among a release's
events), stage by stage, the median of the last five on as many processors; a workspace without one gets the figures of
two cores. What other programs took of the machine then, and take now, is reckoned out and in (`share`).
"""

import os
from statistics import median
from typing import Any

from pydantic import Field

from pipeline.cpu_availability import CpuShare
from stores.releases.release import Release, StageReport
from stores.settings import Settings

TIMED_EVENT = "timed"
MAX_NIGHTS = 5
PARALLEL_STAGES = ("histories", "gate_input", "encode", "align")
"""Stages that keep every processor busy."""
_REUSED_COST_SHARE = 0.05
"""What carrying a member costs, in members encoded."""
_WORKER_MB, _DRIVER_MB, _TOKEN_BYTES = 650, 900, 400
_MIN_CPU_SHARE = 0.05


class PlanConfig(Settings):
    """What the machines cost: price of a node for an hour, in any currency, and how many nodes a night uses."""

    price_per_node_hour: float = Field(default=0.0, ge=0)
    nodes: int = Field(default=1, ge=1)


class Workload(Settings):
    """How much a night has to do: rows read, members to encode and to carry forward, titles, shards to do.

    `again` says that there is a live release, beside which the night is judged.
    """

    events: int
    members: int
    encoded: int
    carried: int
    titles: int
    shards: int
    tokens_per_member: float = 50.0
    again: bool = False

    def fixed(self, stage: str) -> float:
        """Seconds of a stage on next to nothing."""
        return FIXED_SECONDS[stage] + (WARM_FIXED_SECONDS.get(stage, 0.0) if self.again else 0.0)

    def units(self) -> dict[str, float]:
        """The work of each stage in the unit that its time is in proportion to."""
        rows = self.members + self.titles
        encode = self.encoded + _REUSED_COST_SHARE * self.carried
        return {
            "histories": float(self.events),
            "encode": encode * self.tokens_per_member,
            "align": float(rows),
            "gate_vectors": float(rows),
            "index": float(self.titles),
            "publish": self.encoded + self.titles + _REUSED_COST_SHARE * self.carried,
        }


FIXED_SECONDS = {
    "histories": 0.2,
    "gate_input": 4.0,
    "encode": 0.4,
    "compare_models": 0.0,
    "align": 1.2,
    "gate_vectors": 0.4,
    "index": 0.2,
    "gate_index": 0.1,
    "publish": 5.5,
    "readback": 0.2,
    "rest": 5.5,
}
"""Seconds of each stage on next to nothing; `rest` is the start of the cluster and the report."""
WARM_FIXED_SECONDS = {"histories": 0.2, "align": 1.0, "gate_vectors": 0.9}
"""Seconds more where there is a night to be compared with."""
SECONDS_PER_UNIT = {
    "histories": 7e-7,
    "encode": 1.6e-6,
    "align": 2.5e-6,
    "gate_vectors": 2.5e-6,
    "index": 5e-5,
    "publish": 3.3e-5,
}
"""Seconds for one unit on two cores."""


class Estimate(Settings):
    """What a night will take. Memory is the sum over its processes, disk what the release adds."""

    stages: dict[str, float]
    seconds: float
    memory_mb: int
    disk_mb: int
    cost: float
    nights: int


def estimate(
    work: Workload, earlier: list[Release], config: PlanConfig, workers: int, share: CpuShare | None = None
) -> Estimate:
    """The estimate of a night from the releases before it, newest first; `share` is what of the machine is free."""
    share = share or CpuShare()
    timed = _timed(earlier, share.processors)
    stages = {name: round(_seconds(name, work, timed) / _free(name, share), 2) for name in FIXED_SECONDS}
    seconds = sum(stages.values())
    return Estimate(
        stages=stages,
        seconds=round(seconds, 1),
        memory_mb=_memory(work, workers),
        disk_mb=_disk(work, earlier),
        cost=round(seconds / 3600 * config.nodes * config.price_per_node_hour, 4),
        nights=len(timed),
    )


def record_timing(
    release: Release, work: Workload, expected: Estimate, took: dict[str, float], share: CpuShare | None = None
) -> None:
    """Append what a night was expected to take and took, stage by stage, to the events of its release."""
    models = {"work": work, "expected": expected, "share": share or CpuShare()}
    facts = {name: model.model_dump(mode="json") for name, model in models.items()}
    release.add_event(TIMED_EVENT, seconds=round(sum(took.values()), 3), stages=took, **facts)


def stages_of(reports: list[StageReport], seconds: float) -> dict[str, float]:
    """Seconds of each stage of a night that took so many in all; `rest` is what no stage took."""
    took = {report.name: report.seconds for report in reports}
    return {**took, "rest": round(max(0.0, seconds - sum(took.values())), 3)}


def timing(release: Release) -> dict[str, Any] | None:
    """How long a night took stage by stage, and its work; None where it was not timed (it was resumed, say)."""
    return next((event for event in release.events() if event["event"] == TIMED_EVENT), None)


def _timed(earlier: list[Release], processors: int) -> list[dict[str, Any]]:
    """The last nights on a machine of so many processors, or if there are none on any, as on a quiet one."""
    nights = [event for release in earlier if (event := timing(release))]
    alike = [night for night in nights if _share(night).processors == processors]
    return [_quiet(night) for night in (alike or nights)[:MAX_NIGHTS]]


def _quiet(night: dict[str, Any]) -> dict[str, Any]:
    """A night with the seconds that its stages would have taken on a quiet machine."""
    stages = {name: seconds * _free(name, _share(night)) for name, seconds in night["stages"].items()}
    return {**night, "stages": stages}


def _share(night: dict[str, Any]) -> CpuShare:
    return CpuShare.model_validate(night.get("share", {}))


def _free(stage: str, share: CpuShare) -> float:
    return share.every if stage in PARALLEL_STAGES else share.one


def _seconds(stage: str, work: Workload, timed: list[dict[str, Any]]) -> float:
    found = [_scaled(stage, work, night) for night in timed if stage in night["stages"]]
    return (
        median(found) if found else work.fixed(stage) + SECONDS_PER_UNIT.get(stage, 0.0) * work.units().get(stage, 0.0)
    )


def _scaled(stage: str, work: Workload, night: dict[str, Any]) -> float:
    """The time of a stage of another night, its part beyond the fixed one in proportion to the work."""
    took, before, slowness = (
        float(night["stages"][stage]),
        Workload.model_validate(night["work"]),
        _machine_slowdown(night),
    )
    fixed = min(before.fixed(stage) * slowness, took)
    more = (work.fixed(stage) - before.fixed(stage)) * slowness
    done, to_do = before.units().get(stage, 0.0), work.units().get(stage, 0.0)
    return max(0.0, fixed + more) + (took - fixed) * (to_do / done if done else 1.0)


def _machine_slowdown(night: dict[str, Any]) -> float:
    """By how much a machine took longer for fixed parts than those of FIXED: stages that have no other tell it."""
    units = Workload.model_validate(night["work"]).units()
    alone = {name: seconds for name, seconds in night["stages"].items() if name in FIXED_SECONDS and name not in units}
    usual = sum(FIXED_SECONDS[name] for name in alone)
    return float(sum(alone.values())) / usual if usual else 1.0


def _memory(work: Workload, workers: int) -> int:
    """Processes, and in each worker two shards of histories."""
    shard = work.members / max(work.shards, 1) * work.tokens_per_member * _TOKEN_BYTES
    return round(_DRIVER_MB + workers * (_WORKER_MB + 2 * shard / 2**20))


def _disk(work: Workload, earlier: list[Release]) -> int:
    """The files of the last release, in proportion to the members; without one, 64 floats and the tokens."""
    for release in earlier:
        files = release.manifest.files
        members = sum(entry.rows for entry in files if entry.path.startswith("members/"))
        if members:
            return round(sum(entry.bytes for entry in files) * max(work.members / members, _MIN_CPU_SHARE) / 2**20)
    return round(work.members * (300 + 40 * work.tokens_per_member) / 2**20)


def num_workers(workers: int | None) -> int:
    """Workers of a night: as configured, else one for each processor."""
    return workers or os.cpu_count() or 1
