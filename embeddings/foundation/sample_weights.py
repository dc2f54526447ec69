"""How much a target counts: by how far and how long it was watched, and by how little it was pushed.

The first is on by default, the second off. Data without durations or impressions weigh all targets alike.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary
from stores import schema

_GLANCE_SHARE, _MIN_WEIGHT = 0.1, 0.02
"""Weight of a token without a duration among tokens that have one, and of any token, before normalising."""
_TYPICAL_RUNTIME_S = 5400.0
"""A runtime where none is known, and the duration whose logarithm is one."""

Floats = npt.NDArray[np.float64]


def with_sample_weights(
    tokens: TokenSequences, histories: pa.Table, vocabulary: Vocabulary, config: TrainingConfig
) -> TokenSequences:
    """The tokens of `histories` with `weights` set as configured; the mean weight of a member's targets is one."""
    weights = np.ones(int(tokens.lengths.sum()))
    if config.engagement_weights:
        weights *= engagement_weights(histories, vocabulary)
    if config.max_ips_weight and schema.PROPENSITY in histories.column_names:
        weights *= inverse_propensity_weights(histories, config.max_ips_weight)
    owner = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    sums = np.bincount(owner, weights, minlength=len(tokens.lengths))
    tokens.weights[np.arange(len(owner)) + owner] = weights * (tokens.lengths / np.maximum(sums, 1e-9))[owner]
    return tokens


def engagement_weights(histories: pa.Table, vocabulary: Vocabulary) -> Floats:
    """(tokens,): the share of the runtime that was watched, times the logarithm of how long; about 1 for a whole film.

    Ones where no token has a duration.
    """
    duration = _flat_column(histories, schema.DURATION)
    duration = np.where(np.isfinite(duration) & (duration > 0), duration, 0.0)
    if not duration.any():
        return np.ones(len(duration))
    rows = vocabulary.rows(histories[schema.TITLE_ID].combine_chunks().flatten())
    runtime = vocabulary.known_runtimes[rows]
    share = np.minimum(duration, np.where(runtime > 0, runtime, _TYPICAL_RUNTIME_S)) / np.where(
        runtime > 0, runtime, _TYPICAL_RUNTIME_S
    )
    watched = share * np.log1p(duration / 60) / np.log1p(_TYPICAL_RUNTIME_S / 60)
    return np.maximum(np.where(duration > 0, watched, _GLANCE_SHARE), _MIN_WEIGHT)


def inverse_propensity_weights(histories: pa.Table, clip: float) -> Floats:
    """(tokens,): one over the propensity, relative to the mean and clipped to [1 / clip, clip]; 1 where there is none.

    Inverse propensity scoring for implicit feedback (Saito et al., WSDM 2020); the clip bounds its variance.
    """
    propensity = _flat_column(histories, schema.PROPENSITY)
    shown = np.isfinite(propensity) & (propensity > 0)
    inverse = 1 / np.where(shown, np.maximum(propensity, 1e-9), 1.0)
    usual = 1 / np.median(propensity[shown]) if shown.any() else 1.0
    return np.where(shown, np.clip(inverse / usual, 1 / clip, clip), 1.0)


def _flat_column(histories: pa.Table, name: str) -> Floats:
    values = histories[name].combine_chunks().flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
