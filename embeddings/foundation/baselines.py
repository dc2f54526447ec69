"""What any model must beat: popularity, the popularity of the last week, and item-kNN."""

import warnings

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embeddings.foundation.evaluation_queries import EventTable, Queries, event_counts
from embeddings.foundation.metrics import Scorer, Scores

_DAY_S = 86_400
_NUM_NEIGHBOURS = 100
_COLUMNS_PER_BLOCK = 64

Ints = npt.NDArray[np.int64]


def popularity(histories: pa.Table, title_ids: pa.Array) -> Scorer:
    """Titles by their events."""
    scores = event_counts(histories, title_ids).astype(np.float32)
    return lambda begin, end: np.broadcast_to(scores, (end - begin, len(scores)))


def popular_7_days(histories: pa.Table, title_ids: pa.Array, queries: Queries) -> Scorer:
    """Titles by their tokens in the seven days before the day of the question."""
    events = EventTable.of(histories, title_ids)
    known = events.titles >= 0
    order = np.argsort(events.last[known], kind="stable")
    times, titles = events.last[known][order], events.titles[known][order]
    nights = queries.times // _DAY_S * _DAY_S

    def score(begin: int, end: int) -> Scores:
        days, which = np.unique(nights[begin:end], return_inverse=True)
        first, last = np.searchsorted(times, days - 7 * _DAY_S), np.searchsorted(times, days)
        week = [np.bincount(titles[a:b], minlength=len(title_ids)) for a, b in zip(first, last, strict=True)]
        return np.stack(week).astype(np.float32)[which]

    return score


def item_knn(histories: pa.Table, title_ids: pa.Array, queries: Queries) -> Scorer:
    """Sum over a history of cosine similarities of titles by the members who met them, 100 neighbours each."""
    neighbours = _neighbours(EventTable.of(histories, title_ids), len(title_ids))

    def score(begin: int, end: int) -> Scores:
        starts = queries.seen_starts[begin : end + 1]
        titles = queries.seen[starts[0] : starts[-1]]
        rows = np.repeat(np.arange(end - begin), np.diff(starts))
        met = torch.zeros(len(title_ids), end - begin)
        met[titles[titles >= 0], rows[titles >= 0]] = 1.0
        result: Scores = torch.sparse.mm(neighbours, met).T.numpy()
        return result

    return score


def _neighbours(events: EventTable, titles: int) -> torch.Tensor:
    """Sparse (titles, titles): column j holds the similarities of title j to its nearest titles."""
    new = events.new
    members, met = int(events.starts.shape[0]) - 1, events.titles[new]
    norms = np.sqrt(np.maximum(np.bincount(met, minlength=titles), 1))
    values = torch.from_numpy((1 / norms[met]).astype(np.float32))
    where = torch.from_numpy(np.stack([met, events.owner[new]]))
    matrix = torch.sparse_coo_tensor(where, values, (titles, members), check_invariants=True).coalesce()
    rows, columns, weights = [], [], []
    for begin in range(0, titles, _COLUMNS_PER_BLOCK):
        chosen = torch.arange(begin, min(begin + _COLUMNS_PER_BLOCK, titles))
        near = _product(matrix, matrix.index_select(0, chosen).t().coalesce())
        rows_near, columns_near = near.indices()  # few of a large catalogue have a member in common
        known, place = (torch.from_numpy(one) for one in np.unique(rows_near.numpy(), return_inverse=True))
        block = torch.zeros(len(known), len(chosen)).index_put_((place, columns_near), near.values())
        block[known[:, None] == chosen[None, :]] = 0.0
        best = torch.topk(block, min(_NUM_NEIGHBOURS, len(known)), dim=0)
        rows.append(known[best.indices].flatten())
        columns.append(chosen.repeat(len(best.indices)))
        weights.append(best.values.flatten())
    index = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(index, torch.cat(weights), (titles, titles), check_invariants=True).coalesce()


def _product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sparse product of two sparse matrices."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")  # nothing of it is used but this
        found: torch.Tensor = torch.sparse.mm(one, other)
    return found.coalesce()
