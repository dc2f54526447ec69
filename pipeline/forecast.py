"""Compare a night's duration with what was expected of it.

A thread that only computes gets a share of its time on a processor. On a quiet machine that is all of it; beside other
programs it is less, the more so for as many threads as there are processors. Times of a night are brought to a quiet
machine by the share that was seen then, and to tonight by the share that is seen now.
"""

from time import monotonic

from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.cpu_availability import average, measure_cpu
from pipeline.estimate import Estimate, Workload, estimate, num_workers, record_timing, stages_of
from pipeline.run_plan import NightRequest
from pipeline.workload import estimate_workload
from stores.errors import CorruptError, StoreError
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace

_QUIET_CPU_SHARE = 0.9
"""From this share on other programs are not worth a word."""


class Forecast:
    """What a night that just began is expected to take; its clock runs from here."""

    def __init__(self, config: Config, request: NightRequest, release: Release, workspace: Workspace) -> None:
        self.began, self.release, self.share = monotonic(), release, measure_cpu()
        self.work: Workload = estimate_workload(config, request, release.plan.model_id, workspace)
        earlier = workspace.releases()[::-1]
        self.expected: Estimate = estimate(
            self.work, earlier, config.plan, num_workers(config.encode.workers), self.share
        )

    @classmethod
    def start(
        cls, config: Config, request: NightRequest, release: Release, workspace: Workspace, tell: ConsoleReporter
    ) -> "Forecast | None":
        """Make and tell it. A lake that cannot be counted and damaged nights have none: the night goes on."""
        try:
            forecast = cls(config, request, release, workspace)
        except (StoreError, CorruptError) as error:
            tell.line(f"  no forecast: {error.what}")
            return None
        work, expected = forecast.work, forecast.expected
        carried = f", {work.carried:,} to carry forward" if work.carried else ""
        basis = "" if expected.nights else " (rough: no night was timed yet)"
        beside = f", on {forecast.share.every:.0%} of the machine" if forecast.share.every < _QUIET_CPU_SHARE else ""
        tell.line(f"  expected: {expected.seconds:,.0f} s{basis}{beside}, {work.encoded:,} members to encode{carried}")
        return forecast

    def close(self, reports: list[StageReport], tell: ConsoleReporter) -> None:
        """Note what the night took, for the forecasts of later ones, and tell it beside the estimate."""
        took = monotonic() - self.began
        share = average(self.share, measure_cpu())
        record_timing(self.release, self.work, self.expected, stages_of(reports, took), share)
        off = 100 * (took / max(self.expected.seconds, 1e-9) - 1)
        tell.line(f"  took {took:,.0f} s, expected {self.expected.seconds:,.0f} s ({off:+.0f} %)")
