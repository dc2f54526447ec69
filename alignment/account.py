"""The night's account: what the stage report says about the space."""

from typing import Any

import numpy as np

from alignment import figures as f
from alignment.config import AlignmentConfig
from alignment.dimensions import dimension_report
from alignment.evidence import Evidence
from alignment.fitting import moved_anchors
from alignment.gram import Rows
from alignment.moved import moved_titles
from alignment.placement import Placement
from alignment.procrustes import unit_residuals
from alignment.reference import matrix_of, positions
from alignment.shards import ROOT, roots_of
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.columns import EMBEDDING, TITLE_ID
from stores.release import Release


def account(
    release: Release, placement: Placement, evidence: Evidence | None, config: AlignmentConfig, space_id: str
) -> dict[str, Any]:
    """Everything as values that JSON can hold."""
    transform, verdict = placement.transform, placement.verdict
    facts: dict[str, Any] = {
        **verdict.figures,
        **_ranking_kept(release, transform),
        "outcome": verdict.outcome,
        "space_id": space_id,
        "reused": placement.reused,
        "reasons": verdict.reasons,
        "score_error": f.score_error(transform),
        "mode": transform.mode,
        "rank": transform.rank,
        "width": transform.width,
        "native_width": transform.native_width,
        "energy_kept": transform.energy_kept,
        "ridge": list(transform.ridge),
        "transform_hash": transform.hash,
    }
    if roots_of(release)["members"] != ROOT:
        facts.pop("heldout_native_top_overlap", None)  # of members turned back it would be 1 whatever happened
    if evidence is None:
        return facts | {"moved": [], "moved_count": 0}
    return facts | _against_reference(placement, evidence, config, release) | _drift(release, space_id)


def _against_reference(
    placement: Placement, evidence: Evidence, config: AlignmentConfig, release: Release
) -> dict[str, Any]:
    """Moved titles, stability of dimensions, and how old the anchors are; in a space of its own only the last."""
    ages: dict[str, Any] = {
        "anchors": {"titles": len(evidence.new), "members": len(evidence.member_new)},
        "anchors_from_epoch": evidence.share_of(release.plan.reference_release or ""),
    }
    if len(evidence.new):
        ages["anchor_age_days"] = float(np.median(evidence.ages(release.release_id)))
    if not placement.aligned or not len(evidence.new):
        return ages | {"moved": [], "moved_count": 0}
    aligned = placement.transform.titles(evidence.new.astype(np.float64))
    reference = evidence.reference.astype(np.float64)
    beyond = moved_anchors(unit_residuals(aligned, reference), config)
    return ages | {
        "moved": moved_titles(evidence.titles, aligned, reference, beyond),
        "moved_count": int(beyond.sum()),
        "dimensions": [dimension.as_dict() for dimension in dimension_report(aligned, reference)],
    }


def _drift(release: Release, space_id: str) -> dict[str, Any]:
    """Cosines with yesterday's titles, where yesterday is in the same space."""
    previous = release.sibling(release.plan.previous_release) if release.plan.previous_release else None
    if previous is None or previous.space_id != space_id:
        return {}
    today, yesterday = (r.table("titles", [TITLE_ID, EMBEDDING]) for r in (release, previous))
    found = positions(today[TITLE_ID], yesterday[TITLE_ID])
    x, y = matrix_of(today)[found >= 0], matrix_of(yesterday)[found[found >= 0]]
    if not len(x):
        return {}
    cosine = f.cosines(x.astype(np.float64), y.astype(np.float64))
    return {"drift_yesterday": {"cosine_p50": float(np.median(cosine)), "cosine_p5": float(np.quantile(cosine, 0.05))}}


def _ranking_kept(release: Release, transform: AlignmentTransform) -> dict[str, float]:
    """`native_top_overlap`: share of members' native top ten titles that the aligned vectors give too, 1 up to ties at
    full rank. Nothing where members were encoded into the space and are no longer known natively.
    """
    if roots_of(release)["members"] != ROOT:
        return {}
    members, titles = (_some(release, side) for side in SIDES)
    if not len(members) or not len(titles):
        return {"native_top_overlap": 1.0}
    kept = f.top_overlap(members @ titles.T, transform.apply(members, "members") @ transform.apply(titles, "titles").T)
    return {"native_top_overlap": kept}


def _some(release: Release, side: Side) -> Rows:
    """Native rows of the first shard of a side, at most `SAMPLE`, float64."""
    paths = release.storage.files(f"{ROOT}{side}")
    return f.evenly(matrix_of(release.read_table(paths[0], columns=[EMBEDDING])).astype(np.float64))
