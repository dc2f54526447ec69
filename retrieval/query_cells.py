"""`query_cells`: lists of titles learned from what members want, overlapping, of which a query reads one.

Members' vectors are another distribution than titles', and there are many of them. So cells are made of members
(`demand`), and each cell's list holds every title that a member of that cell may have among its best: a
title stands in many lists or in one. A search reads the one list of its query's cell in 16 bits, and
scores the best few by their full vectors. It takes no walk and no second cell, and costs the same whatever is asked.
"""

from dataclasses import replace
from typing import Any

import faiss
import numpy as np
from typing_extensions import override

from retrieval import demand
from retrieval.backend import Backend, Guide, likely_rows, selector, view
from retrieval.vectors import Mask, Rows, Vectors
from stores.errors import UsageError

_CELLS = (16, 64, 256, 1024)
_MEMBERS_PER_CELL = 16
_COPIES = 6
"""A title stands in at most so many lists on average."""
_OVERHEAD = 4
"""What choosing among cells costs, in codes read per cell."""
_LOST = 0.3
"""Share of the permitted misses that the lists may cause; the rest is left to chance and rounding."""


class QueryCells(Backend):
    """One list of titles for each cell of members; effort is how many times k are scored in full."""

    name, kind, guided = "query_cells", "IndexRefineFlat", True
    efforts = (1, 2)

    @override
    def build(self, vectors: Vectors, guide: Guide | None = None) -> Any:
        if guide is None or len(guide.queries) < 2:
            raise UsageError("query_cells learns from members", expected="member vectors to guide it")
        centres, lists = _lists(vectors, guide)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        quantizer.add(centres)
        base = _filled(quantizer, vectors, lists)
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        index = faiss.IndexRefine(base, flat)
        # written and read at once: what is read owns its parts, and is the type that every reader gets
        return faiss.deserialize_index(faiss.serialize_index(index))

    @override
    def vectors(self, index: Any) -> Vectors:
        return view(index.refine_index)

    @override
    def search(self, index: Any, queries: Vectors, fetch: int, effort: int, allowed: Mask | None) -> Rows:
        lists = faiss.IVFSearchParameters(nprobe=1, sel=selector(allowed))
        how = faiss.IndexRefineSearchParameters(k_factor=effort, base_index_params=lists)
        return likely_rows(index, queries, fetch, how)

    @override
    def set_effort(self, index: Any, effort: int) -> None:
        index.k_factor = effort

    @override
    def bytes_per_title(self, dim: int) -> int:
        return 4 * dim + _COPIES * (2 * dim + 8)


def _lists(vectors: Vectors, guide: Guide) -> tuple[Vectors, list[Rows]]:
    """Centres (c, d) and the rows of each cell's list, for the number of cells that reads the least."""
    fit, test = _half(guide, 0), _half(guide, 1)
    kept = 1 - _LOST * (1 - guide.target)
    best: tuple[float, Vectors, list[Rows]] | None = None
    for cells in _CELLS:
        if best is not None and len(fit.queries) < _MEMBERS_PER_CELL * cells:
            break
        learned = demand.Demand.of(fit, min(cells, len(fit.queries)))
        lists = learned.wanted(vectors, demand.cut(learned, vectors, test, kept))
        sizes = np.array([len(rows) for rows in lists])
        cost = float(sizes[learned.cell(test.queries)].mean()) + _OVERHEAD * cells
        fits = sizes.sum() <= _COPIES * len(vectors)
        if best is None or (fits and cost < best[0]):
            best = cost, learned.centres, lists
    assert best is not None
    return best[1], best[2]


def _half(guide: Guide, first: int) -> Guide:
    part = slice(first, None, 2)
    return replace(guide, queries=guide.queries[part], rows=guide.rows[part], scores=guide.scores[part])


def _filled(quantizer: Any, vectors: Vectors, lists: list[Rows]) -> Any:
    """An inverted file whose lists overlap."""
    kind, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    base = faiss.IndexIVFScalarQuantizer(quantizer, vectors.shape[1], len(lists), kind, metric, False)
    base.is_trained = True
    codes = base.sq.compute_codes(vectors)
    for cell, rows in enumerate(lists):
        some = np.ascontiguousarray(codes[rows])
        base.invlists.add_entries(cell, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(some))
    base.ntotal = len(vectors)  # of titles, not of entries, so that the full vectors fit beside it
    return base
