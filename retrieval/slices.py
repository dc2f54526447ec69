"""Recall of kinds of query and kinds of title by themselves, which a mean over everything would hide."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval import exact
from retrieval.config import RetrievalConfig
from retrieval.filters import Filter
from retrieval.index import TitleIndex
from retrieval.recall import Recall, recall_of_slice
from retrieval.vectors import Mask, Vectors, unit

PLAYS_COLUMN = "plays"
_FILTERED_SHARE = 0.5
"""Share of titles that the filtered slice allows; with far fewer, search is exact and there is nothing to measure."""
_TAIL_PLAYS_SHARE = 0.5
"""Share of titles, the least played, that are the tail."""


def measure_slices(
    index: TitleIndex, titles: pa.Table, queries: Vectors | None, config: RetrievalConfig
) -> dict[str, Recall]:
    """Recall by slice; one that no query or no title is in is left out. `titles` go in the order of the index.

    `filtered`: half of the titles allowed at random. `tail` and `cold`: those of the best titles that are among the
    less played half, and that nobody has played. `title_to_title`: from title to title, without itself.
    """
    generator = np.random.default_rng(config.seed)
    found: dict[str, Recall | None] = {}
    if queries is not None:
        mask = generator.random(len(index)) < _FILTERED_SHARE
        found["filtered"] = index.measure(queries, config.recall_at, allowed=mask)
        found |= _by_title(index, _title_kinds(titles), queries, config.recall_at)
    if index.metric == "cosine" and len(index):
        rows = generator.choice(len(index), min(config.queries, len(index)), replace=False)
        itself = [index.ids.values[[row]] for row in rows]
        found["title_to_title"] = index.measure(index.vectors[rows], config.recall_at, exclude=itself)
    return {name: recall for name, recall in found.items() if recall is not None}


def _title_kinds(titles: pa.Table) -> dict[str, Mask]:
    if PLAYS_COLUMN not in titles.column_names or titles[PLAYS_COLUMN].null_count == len(titles):
        return {}
    plays = pc.fill_null(titles[PLAYS_COLUMN], 0).to_numpy()
    return {
        "tail": np.argsort(np.argsort(plays, kind="stable"), kind="stable") < _TAIL_PLAYS_SHARE * len(plays),
        "cold": plays == 0,
    }


def _by_title(index: TitleIndex, kinds: dict[str, Mask], queries: Vectors, k: int) -> dict[str, Recall | None]:
    if not kinds:
        return {}
    asked = unit(queries) if index.metric == "cosine" else queries
    expected = exact.top_k(index.engine.titles, asked, k, Filter())
    found = index.engine.search(asked, k, Filter())
    return {name: recall_of_slice(found[1], *expected, mask) for name, mask in kinds.items()}
