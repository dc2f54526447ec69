"""A start for title ids: the leading directions of which titles are met near one another.

Positive pointwise mutual information of titles within a few tokens, factorised (Levy and Goldberg,
"Neural Word Embedding as Implicit Matrix Factorization", 2014). From random ids the transformer
first spends hundreds of steps at the level of popularity; from these it leaves at once.
"""

import numpy as np
import numpy.typing as npt
import torch

from embeddings.foundation.tokens import Tokens

_REACH = 5
_SMOOTHING = 0.75
_EXTRA = 8
_POSITIONS = 4_000_000
"""Enough for the leading directions: pairs are counted in so many positions, members being in no order."""


def title_spectrum(tokens: Tokens, titles: int, dim: int) -> torch.Tensor:
    """(titles, dim) float32 of about unit rows; row r is the title of vocabulary row r + 1.

    Deterministic for the state of torch's random numbers. Directions that the data do not have are zero.
    """
    rank = min(dim, titles)
    information = _information(*_pairs(tokens, titles), titles)
    left, strength, _ = torch.svd_lowrank(information, q=min(rank + _EXTRA, titles), niter=4)
    vectors = torch.zeros(titles, dim)
    vectors[:, :rank] = (left * strength.sqrt())[:, :rank]
    return torch.nn.functional.normalize(vectors, dim=1)


def _pairs(tokens: Tokens, titles: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Keys row · titles + column of pairs up to `_REACH` tokens apart in a history, and sums of 1 / distance."""
    owner = np.repeat(np.arange(len(tokens.starts) - 1), np.diff(tokens.starts))[:_POSITIONS]
    titles_met = tokens.targets[:_POSITIONS]
    keys, weights = [], []
    for distance in range(1, _REACH + 1):
        one, two = titles_met[:-distance], titles_met[distance:]
        both = (one > 0) & (two > 0) & (one != two) & (owner[:-distance] == owner[distance:])
        keys += [(one[both] - 1) * titles + two[both] - 1, (two[both] - 1) * titles + one[both] - 1]
        weights += [np.full(len(key), 1 / distance) for key in keys[-2:]]
    found, which = np.unique(np.concatenate(keys), return_inverse=True)
    return found, np.bincount(which, np.concatenate(weights), minlength=len(found)).astype(np.float64)


def _information(keys: npt.NDArray[np.int64], counts: npt.NDArray[np.float64], titles: int) -> torch.Tensor:
    """Sparse symmetric log(p(i, j) / p(i) p(j)), p(i) smoothed, where it is positive."""
    rows, columns = np.divmod(keys, titles)
    total = np.bincount(rows, counts, minlength=titles)
    smooth = np.maximum(total, 1e-9) ** _SMOOTHING
    scale = total.sum() / smooth.sum()
    expected = smooth[rows] * smooth[columns] / smooth.sum()
    value = np.log(np.maximum(counts / np.maximum(expected * scale, 1e-9), 1e-9))
    kept = value > 0
    index = torch.from_numpy(np.stack([rows[kept], columns[kept]]))
    values = torch.from_numpy(value[kept].astype(np.float32))
    return torch.sparse_coo_tensor(index, values, (titles, titles), check_invariants=True).coalesce()
