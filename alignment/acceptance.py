"""Accept or refuse a fit: judge held-out anchors, cross-fit those that were fitted, fall back to a space that holds.

same_space   anchors lie where consumers know them: publish compatibly
new_space    related, but too much has changed (or too little is known): announce a new space
refused      no better than chance, or numerically broken: the ids or the model are wrong
"""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alignment import metrics as f
from alignment.anchors import Anchors
from alignment.config import AcceptanceConfig, AlignmentConfig
from alignment.fitting import fit, moved_anchors, subtract_anchors
from alignment.procrustes import robust_procrustes, unit_residuals
from alignment.second_moments import Gram, Matrix, Rows, require
from alignment.transform import AlignmentTransform
from stores.errors import AlignmentError, MismatchError

Outcome = Literal["same_space", "new_space", "refused"]


@dataclass(frozen=True)
class AcceptanceVerdict:
    """The outcome, a sentence for each reason against `same_space`, and the figures measured."""

    outcome: Outcome
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


def judge(
    transform: AlignmentTransform | None, held_out: Anchors | None, config: AlignmentConfig | None = None
) -> AcceptanceVerdict:
    """Judge a transform by anchors that it was not fitted on (native rows as `new`, rows of the space as `reference`).

    Anchors that the fit has seen are judged where a fit without their fold would have put them (cross-fitting).

    `None` for the transform says that the fit was not defined; the verdict is then a new space. Too few held-out
    anchors measure nothing: a new space too. Raises AlignmentInputError for arguments of another kind, MismatchError
    where the widths are not the transform's.
    """
    config = config or AlignmentConfig()
    require(config, AlignmentConfig, "config")
    for argument, kind, name in ((transform, AlignmentTransform, "transform"), (held_out, Anchors, "held_out")):
        if argument is not None:
            require(argument, kind, name)
    limits = config.acceptance
    if transform is None:
        return AcceptanceVerdict("new_space", ["the rotation onto the reference is not defined"])
    count = held_out.count if held_out else 0
    if held_out is None or count < limits.min_held_out:
        reason = f"{count} held-out anchors measure nothing, at least {limits.min_held_out} are needed"
        return AcceptanceVerdict("new_space", [reason], {"held_out": count})
    measured = measure(transform, held_out, config)
    refusals = _refusal_reasons(measured, transform, limits)
    if refusals:
        return AcceptanceVerdict("refused", refusals, measured)
    changes = _new_space_reasons(measured, limits)
    return AcceptanceVerdict("new_space" if changes else "same_space", changes, measured)


def keep_space_unless_refused(verdict: AcceptanceVerdict) -> AcceptanceVerdict:
    """The same space for a model that is already in it: neither an ageing catalogue nor few anchors take it out.

    Ids that no longer fit do: with unchanged maps they are shuffled in the lake.
    """
    return verdict if verdict.outcome == "refused" else AcceptanceVerdict("same_space", [], verdict.metrics)


def measure(transform: AlignmentTransform, held_out: Anchors, config: AlignmentConfig) -> dict[str, Any]:
    """All figures of the verdict; those that need both titles and members are absent where one side is missing.

    Identification and correlations are of the titles that stayed: a third of the catalogue that moved far would
    drown the others, and how many moved is a figure of its own.
    """
    if held_out.width != transform.width:
        raise MismatchError(f"references are {held_out.width} wide, the transform's space is {transform.width}")
    held_out = held_out.without_zero_weights()
    references = (rows.astype(np.float64) for rows in (held_out.reference, held_out.members[1]))
    titles, members = zip(cross_fitted_positions(transform, held_out), references, strict=True)
    everyone = [np.vstack(side) for side in zip(titles, members, strict=True)]
    moved = moved_anchors(unit_residuals(*titles), config)
    measured: dict[str, Any] = {
        "held_out": len(everyone[0]),
        "held_out_titles": len(titles[0]),
        "heldout_moved_share": float(moved.mean()) if len(moved) else 0.0,
        "heldout_singular_ratio": f.min_singular_value_ratio(*everyone),
        "heldout_bound_ratio": f.procrustes_bound_ratio(*everyone),
        "undetermined": transform.undetermined,
        "score_error": f.max_score_error(transform),
        "energy_kept": transform.energy_kept,
        "moved_anchors": len(transform.moved),
    }
    measured |= _side_agreement(*titles, ~moved, "heldout_")
    if len(members[0]) >= config.acceptance.min_held_out:
        measured |= _side_agreement(*members, np.ones(len(members[0]), bool), "heldout_member_")
    return measured | _score_agreement(transform, held_out, ~moved)


def _side_agreement(x: Matrix, y: Matrix, stayed: NDArray[np.bool_], prefix: str) -> dict[str, float | None]:
    """How well the entities of one side lie where the reference has them; nothing where there is at most one."""
    if len(x) < 2:
        return {}
    cosine, scale = f.row_cosines(x, y), f.norm_ratio(x, y)
    return {
        f"{prefix}cosine_p50": float(np.median(cosine)),
        f"{prefix}cosine_p5": float(np.quantile(cosine, 0.05)),
        f"{prefix}identification": f.identification_auc(x[stayed], y[stayed]),
        f"{prefix}correlation": f.energy_weighted_correlation(x[stayed], y[stayed]),
        f"{prefix}scale": scale if np.isfinite(scale) else None,  # JSON has no word for infinity
    }


def _score_agreement(transform: AlignmentTransform, held_out: Anchors, stayed: NDArray[np.bool_]) -> dict[str, float]:
    """Scores of members × titles: native against aligned, and today's members against the reference's titles."""
    sampled = (held_out.new, held_out.reference, held_out.members[0])
    titles, reference, members = (f.evenly_spaced_rows(rows).astype(np.float64) for rows in sampled)
    if len(titles) < 2 or len(members) < 2:
        return {}
    aligned, native, stayed = transform.members(members), members @ titles.T, f.evenly_spaced_rows(stayed)
    own, mixed = aligned @ transform.titles(titles).T, aligned @ reference.T
    return {
        "heldout_native_top_overlap": f.topk_overlap(native, own),
        "heldout_mixed_top_overlap": f.topk_overlap(own, mixed),
        "heldout_mixed_score_correlation": f.score_correlation(own[:, stayed], mixed[:, stayed]),
    }


def _refusal_reasons(measured: dict[str, Any], transform: AlignmentTransform, limits: AcceptanceConfig) -> list[str]:
    reasons = []
    for side, name in (("titles", "heldout_identification"), ("members", "heldout_member_identification")):
        if measured.get(name, 1.0) < limits.refuse_identification:
            reasons.append(
                f"held-out {side} are nearer to their own reference than to another's with a chance of"
                f" {measured[name]:.3f} (0.5 is a coin, at least {limits.refuse_identification} is needed):"
                " ids are shuffled or the model is unrelated"
            )
    if not transform.lossy and measured["score_error"] > limits.max_score_error:
        reasons.append(f"the maps change scores by {measured['score_error']:.1e}, at most {limits.max_score_error}")
    return reasons


def _new_space_reasons(measured: dict[str, Any], limits: AcceptanceConfig) -> list[str]:
    reasons = []
    for prefix, side in (("heldout_", "titles"), ("heldout_member_", "members")):
        for name, least in (
            ("identification", limits.same_identification),
            ("cosine_p50", limits.same_cosine_p50),
            ("correlation", limits.same_correlation),
        ):
            value = measured.get(prefix + name, 1.0)
            if value < least:
                reasons.append(f"{name} of held-out {side} is {value:.3f}, at least {least} is needed")
        factor = measured.get(prefix + "scale", 1.0)
        if factor is None:
            reasons.append(f"most {side} of the reference are zero: norms cannot be compared")
        elif not 1 / limits.same_scale <= factor <= limits.same_scale:
            reasons.append(f"norms of {side} are {factor:.3g} times the reference's, at most {limits.same_scale} fold")
    agreement = measured.get("heldout_mixed_score_correlation", 1.0)
    if agreement < limits.same_score_correlation:
        reasons.append(
            f"today's members score the reference's titles with a correlation of {agreement:.3f} to today's titles,"
            f" at least {limits.same_score_correlation} is needed"
        )
    if measured["heldout_moved_share"] > limits.same_moved_share:
        reasons.append(f"{measured['heldout_moved_share']:.1%} of the held-out titles moved away from the others")
    if measured["undetermined"] > limits.same_undetermined:
        reasons.append(f"the anchors leave {measured['undetermined']:.1%} of the energy's rotation open")
    return reasons


@dataclass(frozen=True, eq=False)
class FitResult:
    """The transform to apply and the verdict on it; `reused` says that it was not fitted tonight."""

    transform: AlignmentTransform
    verdict: AcceptanceVerdict
    reused: bool = False

    @property
    def in_planned_space(self) -> bool:
        """Whether the vectors lie in the space that was planned."""
        return self.verdict.outcome == "same_space"


def fit_and_validate(
    gram_m: Gram, gram_t: Gram, fitted: Anchors, held_out: Anchors, config: AlignmentConfig
) -> FitResult:
    """Fit onto `fitted`, judge by `held_out`; where that fails, the transform of the model's own canonical space.

    Both sets of title anchors are expected in `gram_t`, with their weights.
    """
    try:
        placement = fit_onto(gram_m, gram_t, fitted, held_out, config)
    except AlignmentError as error:
        return FitResult(fit(gram_m, gram_t, None, config), AcceptanceVerdict("new_space", [str(error)]))
    return placement if placement.in_planned_space else replace(placement, transform=fit(gram_m, gram_t, None, config))


def fit_onto(gram_m: Gram, gram_t: Gram, fitted: Anchors, held_out: Anchors, config: AlignmentConfig) -> FitResult:
    """Fit onto `fitted` and judge by `held_out`, whatever the verdict. Raises AlignmentError as `fit`.

    Movers among the held-out anchors take no part in the rotation but would bend stage 1, so they are taken out of
    `gram_t` and the fit is repeated.
    """
    transform = fit(gram_m, gram_t, fitted, config)
    moved = _moved_share(transform, held_out, config)
    if moved.any() and config.mode == "canonical":
        transform = fit(gram_m, subtract_anchors(gram_t, held_out, moved), fitted, config)
    return FitResult(transform, judge(transform, held_out, config))


def _moved_share(transform: AlignmentTransform, held_out: Anchors, config: AlignmentConfig) -> NDArray[np.bool_]:
    aligned = transform.titles(held_out.new.astype(np.float64))
    return moved_anchors(unit_residuals(aligned, held_out.reference), config) & held_out.has_weight


NUM_FOLDS = 5


def cross_fitted_positions(transform: AlignmentTransform, anchors: Anchors) -> tuple[Matrix, Matrix]:
    """Aligned titles (n, s) and members (p, s) of `anchors`, float64, as if none of them had been fitted.

    Rows that the rotation of `transform` was fitted on are recognised by their values and turned by the rotation that
    four fifths of the fitted rows give, they not being among them. Others are as `transform` gives them.
    """
    aligned = _align_both(transform, anchors)
    fitted = transform.fitted
    if fitted is None:
        return aligned
    x, y = (
        np.vstack(_align_both(transform, fitted)),
        np.vstack([fitted.reference, fitted.members[1]]).astype(np.float64),
    )
    keys = [_row_keys(fitted.new), _row_keys(fitted.members[0])]
    folds = np.concatenate(keys) % NUM_FOLDS

    @cache
    def without(fold: int) -> Matrix:
        return robust_procrustes(x[folds != fold], y[folds != fold], np.ones(np.count_nonzero(folds != fold))).Q

    for rows, native, known in zip(aligned, (anchors.new, anchors.members[0]), keys, strict=True):
        theirs = _row_keys(native)
        for fold in range(NUM_FOLDS):
            part = np.isin(theirs, known) & (theirs % NUM_FOLDS == fold)
            if part.any():
                rows[part] = rows[part] @ without(fold)
    return aligned


def _align_both(transform: AlignmentTransform, anchors: Anchors) -> tuple[Matrix, Matrix]:
    return transform.titles(anchors.new.astype(np.float64)), transform.members(anchors.members[0].astype(np.float64))


def _row_keys(x: Rows) -> NDArray[np.uint64]:
    """A number for each row, (n,), the same for the same values in float32."""
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in x.astype(np.float32))
    return np.frombuffer(b"".join(digests), dtype="<u8")
