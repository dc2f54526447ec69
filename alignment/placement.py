"""One night's decision, without any files: fit, judge, and fall back to a space of its own."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alignment.anchors import Anchors
from alignment.config import AlignmentConfig
from alignment.fitting import fit, moved_anchors, without
from alignment.gram import Gram
from alignment.judging import Verdict, judge
from alignment.procrustes import unit_residuals
from alignment.transform import AlignmentTransform
from stores.errors import AlignmentError


@dataclass(frozen=True, eq=False)
class Placement:
    """The transform to apply and the verdict on it; `reused` says that it was not fitted tonight."""

    transform: AlignmentTransform
    verdict: Verdict
    reused: bool = False

    @property
    def aligned(self) -> bool:
        """Whether the vectors lie in the space that was planned."""
        return self.verdict.outcome == "same_space"


def place(gram_m: Gram, gram_t: Gram, fitted: Anchors, held_out: Anchors, config: AlignmentConfig) -> Placement:
    """Fit onto `fitted`, judge by `held_out`; where that fails, the transform of the model's own canonical space.

    Both sets of title anchors are expected in `gram_t`, with their weights.
    """
    try:
        placement = onto(gram_m, gram_t, fitted, held_out, config)
    except AlignmentError as error:
        return Placement(fit(gram_m, gram_t, None, config), Verdict("new_space", [str(error)]))
    return placement if placement.aligned else replace(placement, transform=fit(gram_m, gram_t, None, config))


def onto(gram_m: Gram, gram_t: Gram, fitted: Anchors, held_out: Anchors, config: AlignmentConfig) -> Placement:
    """Fit onto `fitted` and judge by `held_out`, whatever the verdict. Raises AlignmentError as `fit`.

    Movers among the held-out anchors take no part in the rotation but would bend stage 1, so they are taken out of
    `gram_t` and the fit is repeated.
    """
    transform = fit(gram_m, gram_t, fitted, config)
    moved = _moved(transform, held_out, config)
    if moved.any() and config.mode == "canonical":
        transform = fit(gram_m, without(gram_t, held_out, moved), fitted, config)
    return Placement(transform, judge(transform, held_out, config))


def _moved(transform: AlignmentTransform, held_out: Anchors, config: AlignmentConfig) -> NDArray[np.bool_]:
    aligned = transform.titles(held_out.new.astype(np.float64))
    return moved_anchors(unit_residuals(aligned, held_out.reference), config) & held_out.present
