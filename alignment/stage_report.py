"""Build the report of the align stage: drift, anchors, and the titles that moved most."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alignment import metrics as f
from alignment.acceptance import FitResult
from alignment.anchor_matching import MatchedAnchors
from alignment.config import AlignmentConfig
from alignment.fitting import moved_anchors
from alignment.metrics import dimension_report
from alignment.procrustes import unit_residuals
from alignment.reference import positions_in, to_matrix
from alignment.second_moments import Rows
from alignment.shard_tasks import NATIVE_ROOT, native_roots
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.releases.release import Release
from stores.schema import EMBEDDING, TITLE_ID


def build_stage_report(
    release: Release, placement: FitResult, evidence: MatchedAnchors | None, config: AlignmentConfig, space_id: str
) -> dict[str, Any]:
    """Everything as values that JSON can hold."""
    transform, verdict = placement.transform, placement.verdict
    facts: dict[str, Any] = {
        **verdict.metrics,
        **_native_top_overlap(release, transform),
        "outcome": verdict.outcome,
        "space_id": space_id,
        "reused": placement.reused,
        "reasons": verdict.reasons,
        "score_error": f.max_score_error(transform),
        "mode": transform.mode,
        "rank": transform.rank,
        "width": transform.width,
        "native_width": transform.native_width,
        "energy_kept": transform.energy_kept,
        "ridge": list(transform.ridge),
        "transform_hash": transform.hash,
    }
    if native_roots(release)["members"] != NATIVE_ROOT:
        facts.pop("heldout_native_top_overlap", None)  # of members turned back it would be 1 whatever happened
    if evidence is None:
        return facts | {"moved": [], "moved_count": 0}
    return (
        facts | _drift_from_reference(placement, evidence, config, release) | _drift_from_yesterday(release, space_id)
    )


def _drift_from_reference(
    placement: FitResult, evidence: MatchedAnchors, config: AlignmentConfig, release: Release
) -> dict[str, Any]:
    """Moved titles, stability of dimensions, and how old the anchors are; in a space of its own only the last."""
    ages: dict[str, Any] = {
        "anchors": {"titles": len(evidence.new), "members": len(evidence.member_new)},
        "anchors_from_epoch": evidence.share_added_by(release.plan.reference_release or ""),
    }
    if len(evidence.new):
        ages["anchor_age_days"] = float(np.median(evidence.ages(release.release_id)))
    if not placement.in_planned_space or not len(evidence.new):
        return ages | {"moved": [], "moved_count": 0}
    aligned = placement.transform.titles(evidence.new.astype(np.float64))
    reference = evidence.reference.astype(np.float64)
    beyond = moved_anchors(unit_residuals(aligned, reference), config)
    return ages | {
        "moved": farthest_movers(evidence.titles, aligned, reference, beyond),
        "moved_count": int(beyond.sum()),
        "dimensions": [dimension.as_dict() for dimension in dimension_report(aligned, reference)],
    }


def _drift_from_yesterday(release: Release, space_id: str) -> dict[str, Any]:
    """Cosines with yesterday's titles, where yesterday is in the same space."""
    previous = release.other(release.plan.previous_release) if release.plan.previous_release else None
    if previous is None or previous.space_id != space_id:
        return {}
    today, yesterday = (r.table("titles", [TITLE_ID, EMBEDDING]) for r in (release, previous))
    found = positions_in(today[TITLE_ID], yesterday[TITLE_ID])
    x, y = to_matrix(today)[found >= 0], to_matrix(yesterday)[found[found >= 0]]
    if not len(x):
        return {}
    cosine = f.row_cosines(x.astype(np.float64), y.astype(np.float64))
    return {"drift_yesterday": {"cosine_p50": float(np.median(cosine)), "cosine_p5": float(np.quantile(cosine, 0.05))}}


def _native_top_overlap(release: Release, transform: AlignmentTransform) -> dict[str, float]:
    """`native_top_overlap`: share of members' native top ten titles that the aligned vectors give too, 1 up to ties at
    full rank. Nothing where members were encoded into the space and are no longer known natively.
    """
    if native_roots(release)["members"] != NATIVE_ROOT:
        return {}
    members, titles = (_sample_rows(release, side) for side in SIDES)
    if not len(members) or not len(titles):
        return {"native_top_overlap": 1.0}
    kept = f.topk_overlap(members @ titles.T, transform.apply(members, "members") @ transform.apply(titles, "titles").T)
    return {"native_top_overlap": kept}


def _sample_rows(release: Release, side: Side) -> Rows:
    """Native rows of the first shard of a side, at most `SAMPLE`, float64."""
    paths = release.storage.files(f"{NATIVE_ROOT}{side}")
    return f.evenly_spaced_rows(to_matrix(release.read_table(paths[0], columns=[EMBEDDING])).astype(np.float64))


MAX_LISTED_MOVERS = 20


def farthest_movers(
    titles: pa.Table, aligned: Rows, reference: Rows, beyond_noise: NDArray[np.bool_], neighbours: int = 3
) -> list[dict[str, Any]]:
    """The titles that went farthest, farthest first, as plain values.

    `titles` has `title_id` and `name`, `aligned` and `reference` (n, s) their rows. `distance` is ‖x̂ − ŷ‖ of unit
    vectors (0 to 2); `toward` are the titles in whose reference neighbourhood the title is now, `from` those around
    where it was; `beyond_noise` says that it moved by much more than the typical title.
    """
    new, old = _unit(aligned), _unit(reference)
    distance = np.nan_to_num(unit_residuals(new, old))
    farthest = np.lexsort((np.arange(len(distance)), -distance))[:MAX_LISTED_MOVERS]
    rows = titles.to_pylist()
    return [
        {
            "title_id": rows[i]["title_id"],
            "name": rows[i]["name"],
            "distance": round(float(distance[i]), 4),
            "beyond_noise": bool(beyond_noise[i]),
            "toward": _nearest_names(new[i], old, i, rows, neighbours),
            "from": _nearest_names(old[i], old, i, rows, neighbours),
        }
        for i in farthest.tolist()
    ]


def _nearest_names(vector: Rows, old: Rows, itself: int, rows: list[dict[str, Any]], count: int) -> list[Any]:
    """Names (ids where there are none) of the titles whose reference is nearest by cosine."""
    similarity = old @ vector
    similarity[itself] = -np.inf
    best = np.argsort(-similarity, kind="stable")[: min(count, len(rows) - 1)]
    return [rows[j]["name"] or rows[j]["title_id"] for j in best.tolist()]


def _unit(x: Rows) -> Rows:
    x = np.asarray(x, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norms > 0, norms, 1.0)
