"""How much a target counts: by how far and how long it was watched, and by how little it was pushed.

The first is on by default, the second off. Data without durations or impressions weigh all targets alike.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.tokens import Tokens
from embeddings.foundation.vocabulary import Vocabulary
from stores import columns

_GLANCE, _LEAST = 0.1, 0.02
"""Weight of a token without a duration among tokens that have one, and of any token, before normalising."""
_USUAL_S = 5400.0
"""A runtime where none is known, and the duration whose logarithm is one."""

Floats = npt.NDArray[np.float64]


def weighted(tokens: Tokens, histories: pa.Table, vocabulary: Vocabulary, config: TrainingConfig) -> Tokens:
    """The tokens of `histories` with `weights` set as configured; the mean weight of a member's targets is one."""
    weights = np.ones(int(tokens.lengths.sum()))
    if config.engagement_weights:
        weights *= engagement(histories, vocabulary)
    if config.exposure_clip and columns.PROPENSITY in histories.column_names:
        weights *= exposure(histories, config.exposure_clip)
    owner = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    sums = np.bincount(owner, weights, minlength=len(tokens.lengths))
    tokens.weights[np.arange(len(owner)) + owner] = weights * (tokens.lengths / np.maximum(sums, 1e-9))[owner]
    return tokens


def engagement(histories: pa.Table, vocabulary: Vocabulary) -> Floats:
    """(tokens,): the share of the runtime that was watched, times the logarithm of how long; about 1 for a whole film.

    Ones where no token has a duration.
    """
    duration = _flat(histories, columns.DURATION)
    duration = np.where(np.isfinite(duration) & (duration > 0), duration, 0.0)
    if not duration.any():
        return np.ones(len(duration))
    rows = vocabulary.rows(histories[columns.TITLE_ID].combine_chunks().flatten())
    runtime = vocabulary.known_runtimes[rows]
    share = np.minimum(duration, np.where(runtime > 0, runtime, _USUAL_S)) / np.where(runtime > 0, runtime, _USUAL_S)
    watched = share * np.log1p(duration / 60) / np.log1p(_USUAL_S / 60)
    return np.maximum(np.where(duration > 0, watched, _GLANCE), _LEAST)


def exposure(histories: pa.Table, clip: float) -> Floats:
    """(tokens,): one over the propensity, relative to the mean and clipped to [1 / clip, clip]; 1 where there is none.

    Inverse propensity scoring for implicit feedback (Saito et al., WSDM 2020); the clip bounds its variance.
    """
    propensity = _flat(histories, columns.PROPENSITY)
    shown = np.isfinite(propensity) & (propensity > 0)
    inverse = 1 / np.where(shown, np.maximum(propensity, 1e-9), 1.0)
    usual = 1 / np.median(propensity[shown]) if shown.any() else 1.0
    return np.where(shown, np.clip(inverse / usual, 1 / clip, clip), 1.0)


def _flat(histories: pa.Table, name: str) -> Floats:
    values = histories[name].combine_chunks().flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
