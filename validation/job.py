"""The gates of a night as stages: input, vectors (with space, quality and drift), index.

Each reads what earlier stages reported and wrote, and answers with a StageReport whose metrics are
`passed`, `failed` (a line for each check that holds the release), `checks`, and the `figures` behind them.
"""

from contextlib import suppress
from typing import Any

from stores.errors import CorruptError
from stores.releases.release import Release, StageReport
from stores.schema import EMBEDDING, MEMBER_ID, TITLE_ID
from validation import drift, model_quality, previous_releases, readback
from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.coverage import Coverage, of_members, of_titles
from validation.drift import segment_figures
from validation.gx_gate import judge
from validation.model_quality import quality
from validation.readback import ConsumerReaders
from validation.release_pairs import pair
from validation.statistics import VectorStatistics, batches, matrix
from validation.suites import Suite
from validation.suites import alignment as space_suite
from validation.suites import drift as drift_suite
from validation.suites import feed as feed_suite
from validation.suites import index as index_suite
from validation.suites import input as input_suite
from validation.suites import quality as quality_suite
from validation.suites import vectors as vectors_suite

SIDES = ("members", "titles")


def run_input(config: GateConfig, release: Release) -> StageReport:
    """Judge what the night read, beside the nights before it."""
    tonight, *earlier = [
        input_suite.Night(as_of=night.plan.as_of, metrics=previous_releases.metrics(night, "histories"))
        for night in (release, *previous_releases.live_lineage(release))
        if night.plan.as_of <= release.plan.as_of  # a look back in time has less than what is live
    ]
    suites = {
        "input": input_suite.suite(tonight, earlier, config.input),
        "feed": feed_suite.suite(tonight.profile, [night.profile for night in earlier], config.input),
    }
    figures = {name: value for found, _ in suites.values() for name, value in found.items()}
    return _report("gate_input", judge("input", suites), figures, int(tonight.number("events_accepted") or 0))


def run_vectors(config: GateConfig, release: Release) -> StageReport:
    """Judge the space first; unless it was refused, also the vectors, the model and the drift."""
    found = _align_metrics(release)
    suites: dict[str, Suite] = {"alignment": space_suite.suite(found, release.plan, config.alignment)}
    figures: dict[str, Any] = {}
    if found.get("outcome") in space_suite.OUTCOMES:
        before = _same_space(release)
        for side in SIDES:
            figures[side] = _vector_figures(release, side)
            expected = _expected(side, found, release, before)
            suites[side] = vectors_suite.suite(side, figures[side], expected, config.vectors)
        model = quality(release)
        if (other := previous_releases.previous_release(release)) and other.plan.model_id != release.plan.model_id:
            with suppress(CorruptError):  # damage of what is live holds nothing better up
                model["live"] = quality(other)
        if asked := previous_releases.metrics(release, "compare_models"):
            model["compared"] = model_quality.paired_metrics(asked, config.quality)
        suites["quality"] = quality_suite.suite(model, config.quality)
        figures["quality"] = model
        if before and (differences := _drift_figures(config, release, before, figures)):
            suites["drift"] = drift_suite.suite(differences, config.drift)
            figures["drift"] = differences
    rows = sum(figures[side]["rows"] for side in SIDES if side in figures)
    return _report("gate_vectors", judge("vectors", suites), figures, rows)


def run_index(config: GateConfig, release: Release) -> StageReport:
    """Judge the measured indexes."""
    titles = sum(entry.rows for entry in release.completed_files() if entry.path.startswith("titles/"))
    suite = index_suite.suite(previous_releases.metrics(release, "index"), titles, config.index)
    return _report("gate_index", judge("index", {"index": suite}), dict(suite[0]), titles)


def run_canary(config: GateConfig, release: Release, readers: ConsumerReaders) -> StageReport:
    """Read a few published rows back as consumers do, and note the answer as the event `readback` of the release."""
    suite = readback.readback_suite(release, readers, config.readback)
    report = _report("readback", judge("readback", {"readback": suite}), dict(suite[0]), 2 * config.readback.probes)
    release.add_event("readback", passed=report.metrics["passed"], failed=report.metrics["failed"])
    return report


def _report(name: str, verdict: GateVerdict, figures: dict[str, Any], rows: int) -> StageReport:
    return StageReport(name=name, rows=rows, metrics=verdict.metrics() | {"figures": figures})


def _align_metrics(release: Release) -> dict[str, Any]:
    return previous_releases.metrics(release, "align")


def _same_space(release: Release) -> Release | None:
    """The live release if its vectors may be compared with these."""
    before = previous_releases.previous_release(release)
    return before if before and before.space_id == release.space_id else None


def _expected(side: str, found: dict[str, Any], release: Release, before: Release | None) -> vectors_suite.Expected:
    earlier = previous_releases.metrics(before, "gate_vectors").get("figures", {}).get(side)
    width = earlier["width"] if earlier else found.get("width")
    new_model = before is not None and before.manifest.model_id != release.plan.model_id
    return vectors_suite.Expected(width=width, before=earlier, new_model=new_model)


def _vector_figures(release: Release, side: str) -> dict[str, Any]:
    seen = VectorStatistics()
    key = MEMBER_ID if side == "members" else TITLE_ID
    for path in release.storage.files(side):
        for batch in batches(release.storage, path, [key, EMBEDDING]):
            seen.add(batch.column(0), matrix(batch.column(1)))
    covered: Coverage = of_members(release) if side == "members" else of_titles(release)
    return seen.figures() | covered.figures()


def _drift_figures(
    config: GateConfig, release: Release, before: Release, figures: dict[str, Any]
) -> dict[str, Any] | None:
    """The differences to the live release; None where the widths differ, which the width's own check reports."""
    both = pair(release, before, config.drift.sample)
    if both is None:
        return None
    found = drift.figures(both, config.drift) | segment_figures(both, release, config.drift)
    earlier = previous_releases.metrics(before, "gate_vectors").get("figures", {})
    if before.manifest.model_id != release.plan.model_id:
        return found  # a training learns its own temperature, and with it the scale of all norms
    for side in SIDES:
        if side in earlier and earlier[side]["norms"]["counts"]:
            found[f"{side}_norm_psi"] = drift.norms_psi(figures[side]["norms"], earlier[side]["norms"])
    return found
