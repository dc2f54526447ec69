"""A night's own forecast: told when it begins, compared with what it took when it ends."""

from time import monotonic

from pipeline.config import Config
from pipeline.estimate import Estimate, Work, estimate, note, processors, stages_of
from pipeline.foresight import foresee
from pipeline.planning import Request
from pipeline.share import between, look
from pipeline.telling import Teller
from stores.errors import CorruptError, StoreError
from stores.release import Release, StageReport
from stores.workspace import Workspace

_QUIET = 0.9
"""From this share on other programs are not worth a word."""


class Forecast:
    """What a night that just began is expected to take; its clock runs from here."""

    def __init__(self, config: Config, request: Request, release: Release, workspace: Workspace) -> None:
        self.began, self.release, self.share = monotonic(), release, look()
        self.work: Work = foresee(config, request, release.plan.model_id, workspace)
        earlier = workspace.releases()[::-1]
        self.expected: Estimate = estimate(
            self.work, earlier, config.plan, processors(config.encode.workers), self.share
        )

    @classmethod
    def begin(
        cls, config: Config, request: Request, release: Release, workspace: Workspace, tell: Teller
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
        beside = f", on {forecast.share.every:.0%} of the machine" if forecast.share.every < _QUIET else ""
        tell.line(f"  expected: {expected.seconds:,.0f} s{basis}{beside}, {work.encoded:,} members to encode{carried}")
        return forecast

    def close(self, reports: list[StageReport], tell: Teller) -> None:
        """Note what the night took, for the forecasts of later ones, and tell it beside the estimate."""
        took = monotonic() - self.began
        share = between(self.share, look())
        note(self.release, self.work, self.expected, stages_of(reports, took), share)
        off = 100 * (took / max(self.expected.seconds, 1e-9) - 1)
        tell.line(f"  took {took:,.0f} s, expected {self.expected.seconds:,.0f} s ({off:+.0f} %)")
