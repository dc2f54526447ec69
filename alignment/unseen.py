"""Anchors where a fit without them would have put them: those that were fitted look perfect, even of another model."""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from alignment.anchors import Anchors
from alignment.gram import Matrix, Rows
from alignment.procrustes import robust_procrustes
from alignment.transform import AlignmentTransform

FOLDS = 5


def unseen(transform: AlignmentTransform, anchors: Anchors) -> tuple[Matrix, Matrix]:
    """Aligned titles (n, s) and members (p, s) of `anchors`, float64, as if none of them had been fitted.

    Rows that the rotation of `transform` was fitted on are recognised by their values and turned by the rotation that
    four fifths of the fitted rows give, they not being among them. Others are as `transform` gives them.
    """
    aligned = _both(transform, anchors)
    fitted = transform.fitted
    if fitted is None:
        return aligned
    x, y = np.vstack(_both(transform, fitted)), np.vstack([fitted.reference, fitted.members[1]]).astype(np.float64)
    keys = [_keys(fitted.new), _keys(fitted.members[0])]
    folds = np.concatenate(keys) % FOLDS

    @cache
    def without(fold: int) -> Matrix:
        return robust_procrustes(x[folds != fold], y[folds != fold], np.ones(np.count_nonzero(folds != fold))).Q

    for rows, native, known in zip(aligned, (anchors.new, anchors.members[0]), keys, strict=True):
        theirs = _keys(native)
        for fold in range(FOLDS):
            part = np.isin(theirs, known) & (theirs % FOLDS == fold)
            if part.any():
                rows[part] = rows[part] @ without(fold)
    return aligned


def _both(transform: AlignmentTransform, anchors: Anchors) -> tuple[Matrix, Matrix]:
    return transform.titles(anchors.new.astype(np.float64)), transform.members(anchors.members[0].astype(np.float64))


def _keys(x: Rows) -> NDArray[np.uint64]:
    """A number for each row, (n,), the same for the same values in float32."""
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in x.astype(np.float32))
    return np.frombuffer(b"".join(digests), dtype="<u8")
