"""Everything the report's sections look at, gathered once from a release and the live one before it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from stores.releases.release import Plan, Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import NAME, TITLE_ID
from stores.terminal import truncate
from validation import previous_releases
from validation.checks import GateVerdict
from validation.config import DriftThresholds
from validation.release_pairs import Pair, pair, titles
from validation.release_pairs import Titles as TitleVectors
from validation.report.release_state import ReleaseState, readback_failures, release_state

TREND = 20
NAME_LENGTH = 160
"""Characters of a name that a page shows."""
STAGES = ("histories", "gate_input", "encode", "compare_models", "align", "gate_vectors", "index", "gate_index")


@dataclass(frozen=True)
class ReportData:
    """A release, sealed or staged, and the release that was live when its night began."""

    release: Release
    before: Release | None

    @classmethod
    def of(cls, release: Release) -> "ReportData":
        """The facts of a release."""
        return cls(release, previous_releases.previous_release(release))

    @property
    def plan(self) -> Plan:
        """The night's plan."""
        return self.release.plan

    @property
    def stages(self) -> list[StageReport]:
        """Reports of the finished stages in their order."""
        if self.release.sealed:
            return list(self.release.manifest.stages)
        return [report for name in STAGES if (report := self.release.stage_report(name))]

    def metrics(self, stage: str) -> dict[str, Any]:
        """Metrics of a stage; empty where it did not run."""
        return previous_releases.metrics(self.release, stage)

    def metrics_before(self, stage: str) -> dict[str, Any]:
        """The same of the release before."""
        return previous_releases.metrics(self.before, stage)

    @property
    def figures(self) -> dict[str, Any]:
        """What the gate of the vectors measured."""
        found: dict[str, Any] = self.metrics("gate_vectors").get("figures") or {}
        return found

    @property
    def figures_before(self) -> dict[str, Any]:
        """The same of the release before, if its vectors may be compared with these."""
        found: dict[str, Any] = self.metrics_before("gate_vectors").get("figures") or {}
        return found if self.comparable else {}

    @property
    def verdicts(self) -> list[GateVerdict]:
        """The answers of the gates that judged."""
        return [
            GateVerdict.of(stage.name.removeprefix("gate_"), stage.metrics)
            for stage in self.stages
            if "checks" in stage.metrics
        ]

    @cached_property
    def state(self) -> ReleaseState | None:
        """Whether the release is live as of now; None while its night is not finished."""
        return release_state(self.release)

    @cached_property
    def taken_back(self) -> list[str]:
        """The failures that reading published rows back found; empty where it found none or did not run."""
        return readback_failures(self.release)

    @cached_property
    def comparable(self) -> bool:
        """Whether there is a release before in the same space."""
        return self.before is not None and self.before.space_id == self.release.space_id

    @cached_property
    def titles(self) -> TitleVectors | None:
        """Titles with finite vectors; None where the night was held before there were any."""
        return _labelled(titles(self.release)) if self.release.storage.files("titles") else None

    @cached_property
    def pair(self) -> Pair | None:
        """What both releases have in common; None where they cannot be compared."""
        if not self.comparable or self.before is None or self.titles is None:
            return None
        found = pair(self.release, self.before, DriftThresholds().sample)
        return found and replace(found, now=_labelled(found.now), before=_labelled(found.before))

    @cached_property
    def catalogue(self) -> pa.Table | None:
        """Ids, names, genres and plays of the titles."""
        if not self.release.storage.files("titles"):
            return None
        return self.release.table("titles", [TITLE_ID, NAME, "genres", "plays"])

    @cached_property
    def trend(self) -> list[Release]:
        """The last sealed releases up to this one, oldest first; held ones too."""
        sealed = Workspace.open(self.release.workspace_uri).readable()
        return [release for release in sealed if release.release_id <= self.release.release_id][-TREND:]


def _labelled(found: TitleVectors) -> TitleVectors:
    """Titles with names that can be shown: one line of bounded length, nothing that hides or reorders, never empty."""
    names = (name if name.strip() else repr(title) for name, title in zip(found.names, found.ids, strict=True))
    return replace(found, names=[truncate(name, NAME_LENGTH) for name in names])
