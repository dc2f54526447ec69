"""A batch of queries against an inverted file, cell by cell: one matrix product for each cell and those who read it.

FAISS answers one query after the other and so reads a cell once for each of its readers. Here a cell is read once,
and products of matrices use the processor several times better than products of vectors. A first look at
the likeliest cell of each query gives a bar; of everything after that only what reaches the bar is kept.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from retrieval.threads import map_threads
from retrieval.topk_pruning import sort_keys, true_positions
from retrieval.vectors import Mask, Rows, Scores, Vectors

Pairs = tuple[Rows, Rows, Scores]
"""Query, row and float32 score of each pair (p,)."""
_MAXIMA_GROUP_SIZE = 8
_ROUNDING_SLACK = np.float32(1e-5)  # two products of the same vectors, in blocks of other sizes, need not agree


@dataclass(frozen=True)
class Cell:
    """The vectors (m, d) of a cell that may be returned, and their rows (m,)."""

    number: int
    vectors: Vectors
    rows: Rows

    @classmethod
    def of(cls, index: Any, number: int, allowed: Mask | None) -> "Cell":
        """A cell of an `IndexIVFFlat`; a view where all of it is allowed and lies on a float's boundary."""
        lists, width = index.invlists, index.d
        count = lists.list_size(number)
        if count == 0:
            return cls(number, np.zeros((0, width), np.float32), np.zeros(0, np.int64))
        codes = faiss.rev_swig_ptr(lists.get_codes(number), count * width * 4).view(np.float32)
        vectors = np.require(codes.reshape(count, width), requirements=["ALIGNED"])
        rows = faiss.rev_swig_ptr(lists.get_ids(number), count)
        return (
            cls(number, vectors, rows) if allowed is None else cls(number, vectors[allowed[rows]], rows[allowed[rows]])
        )

    def kth_best_bound(self, queries: Vectors, k: int) -> Scores:
        """A score (q,) that k titles of the cell reach, and hardly more: by maxima of groups, which is quicker."""
        columns = len(self.rows) // _MAXIMA_GROUP_SIZE
        scores = queries @ self.vectors[: _MAXIMA_GROUP_SIZE * columns].T
        tops = scores.reshape(len(queries), _MAXIMA_GROUP_SIZE, columns).max(axis=1)
        best: Scores = np.partition(tops, columns - k, axis=1)[:, columns - k]
        return best

    def above_threshold(self, queries: Vectors, bar: Scores) -> Pairs:
        """Query, row and score of everything that reaches the bar (q,)."""
        scores = queries @ self.vectors.T
        query, place = np.divmod(true_positions(scores >= bar[:, None]), max(1, len(self.rows)))
        return query, self.rows[place], scores[query, place]


def search_batch(index: Any, queries: Vectors, k: int, nprobe: int, allowed: Mask | None) -> Rows:
    """The k best rows (q, k) in the `nprobe` cells of an `IndexIVFFlat` that each query (q, d) reads; −1 for none."""
    affinity = queries @ index.quantizer.reconstruct_n(0, index.nlist).T
    cells = [Cell.of(index, number, allowed) for number in range(index.nlist)]
    least = np.partition(affinity, index.nlist - nprobe, axis=1)[:, index.nlist - nprobe]
    readers = np.ascontiguousarray((affinity >= least[:, None]).T)
    bar = _thresholds(cells, queries, affinity, readers, k)

    def read(cell: Cell) -> Pairs:
        some = np.flatnonzero(readers[cell.number])
        query, row, score = cell.above_threshold(queries[some], bar[some])
        return some[query], row, score

    query, row, score = (np.concatenate(part) for part in zip(*map_threads(read, cells), strict=True))
    order = np.argsort((query << 32) + sort_keys(score))
    query, row = query[order], row[order]
    count = np.bincount(query, minlength=len(queries))
    place = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
    best = np.full((len(queries), k), -1, dtype=np.int64)
    best[query[place < k], place[place < k]] = row[place < k]
    return best


def _thresholds(cells: list[Cell], queries: Vectors, affinity: Scores, readers: Mask, k: int) -> Scores:
    """A score (q,) that k titles reach, by the likeliest large cell of each query, which it reads from now on."""
    bars = np.full(len(queries), -np.inf, dtype=np.float32)
    large = np.array([cell.number for cell in cells if len(cell.rows) >= 2 * _MAXIMA_GROUP_SIZE * k], dtype=np.int64)
    if not len(large):
        return bars
    likeliest = large[affinity[:, large].argmax(axis=1)]
    readers[likeliest, np.arange(len(queries))] = True

    def look(number: int) -> None:
        some = np.flatnonzero(likeliest == number)
        bars[some] = cells[number].kth_best_bound(queries[some], k)

    map_threads(look, np.unique(likeliest).tolist())
    bars -= _ROUNDING_SLACK * np.abs(bars)
    return bars
