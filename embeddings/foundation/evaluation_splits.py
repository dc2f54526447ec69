"""The two protocols of evaluation: which part may be learned from, and which questions are asked.

What may be learned from is the training part and the catalogue as of its last event: events, plays, launches and
titles that came later change no figure (`tests/embeddings/foundation/test_leaks.py`). Events of one second are taken
in the order of the lake."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.evaluation_queries import (
    EventTable,
    Ints,
    Queries,
    build_queries,
    event_counts,
    histories_before,
    last_new_title,
    truncate_histories,
)
from embeddings.foundation.point_in_time import (
    WATCH_ACTIONS,
    catalogue_as_of,
    drop_unseen_titles,
    launch_times,
    plays_of,
)
from stores import schema

_TEST_FRACTION = 0.1
_MAX_QUERIES_PER_MEMBER = 5
_HEAD_PLAYS_SHARE = 0.5


@dataclass(frozen=True)
class EvalSplit:
    """Histories, the part to learn from, the catalogue as of then, and the tokens that are asked."""

    protocol: str
    histories: pa.Table
    train_part: pa.Table
    catalogue: pa.Table
    """The whole catalogue with the plays and ages of the training part: what a model may be trained with."""
    candidates: pa.Table
    """Its rows that are ranked."""
    query_positions: Ints
    slices: dict[str, npt.NDArray[np.bool_]]
    moment: int = 0
    """Second up to which the catalogue is known: that of the last event of the training part, or of the split."""

    @property
    def title_ids(self) -> pa.Array:
        """Ids of the candidates."""
        return self.candidates[schema.TITLE_ID].combine_chunks()

    @cached_property
    def queries(self) -> Queries:
        """The questions, each with all that came before it."""
        return build_queries(self.histories, self.title_ids, self.query_positions)

    def stale_queries(self, seconds: int) -> Queries:
        """The same questions with histories that end so many seconds earlier."""
        return build_queries(self.histories, self.title_ids, self.query_positions, seconds)


def leave_one_out(histories: pa.Table, catalogue: pa.Table, watch: int = WATCH_ACTIONS) -> EvalSplit:
    """Asks the last new title of each member; a member's history ends there.

    `watch` are the bits of the actions that count as plays.
    """
    title_ids = catalogue[schema.TITLE_ID].combine_chunks()
    asked = last_new_title(histories, title_ids)
    part = histories_before(histories, title_ids, asked)
    moment = int(EventTable.of(part, title_ids).last.max(initial=0))
    known = catalogue_as_of(catalogue, plays_of(part, title_ids, watch), moment)
    known = drop_unseen_titles(known, histories, title_ids, asked)
    met = event_counts(part, title_ids) > 0
    return EvalSplit("leave-one-out", histories, part, known, known.filter(pa.array(met)), asked, {}, moment)


def time_split(
    histories: pa.Table,
    catalogue: pa.Table,
    seed: int = 0,
    test_share: float = _TEST_FRACTION,
    watch: int = WATCH_ACTIONS,
) -> EvalSplit:
    """`split_at` the moment at which the last tenth (or another share) of all tokens begins."""
    last = EventTable.of(histories, catalogue[schema.TITLE_ID].combine_chunks()).last
    moment = int(np.quantile(last, 1 - test_share, method="higher")) if len(last) else 0
    return split_at(histories, catalogue, moment, seed, watch)


def split_at(
    histories: pa.Table, catalogue: pa.Table, moment: int, seed: int = 0, watch: int = WATCH_ACTIONS
) -> EvalSplit:
    """Asks what is newly met from a moment (seconds since 1970) on, learns from what ended before it.

    Candidates are all titles but those that nobody met and that launch after the last question.
    """
    title_ids = catalogue[schema.TITLE_ID].combine_chunks()
    events = EventTable.of(histories, title_ids)
    ends = np.bincount(events.owner[events.last < moment], minlength=len(histories))
    part = truncate_histories(histories, np.arange(len(histories)), ends)
    known = catalogue_as_of(catalogue, plays_of(part, title_ids, watch), moment)
    asked = _sample_tokens(np.flatnonzero(events.new & (events.first >= moment)), events.owner, seed)
    plays = event_counts(part, title_ids)
    slices = _slices(plays, events.titles[asked], ends[events.owner[asked]])
    candidates = known.filter(pa.array(_there(known, events, asked, moment)))
    return EvalSplit("time-split", histories, part, known, candidates, asked, slices, moment)


def _there(known: pa.Table, events: EventTable, asked: Ints, moment: int) -> npt.NDArray[np.bool_]:
    """(titles,) whether a title is met, or launched, by the last question."""
    end = int(events.first[asked].max(initial=moment))
    launched = ~(launch_times(known) > end)  # or nobody knows when
    launched[events.titles[(events.titles >= 0) & (events.first <= end)]] = True
    return launched


def _sample_tokens(tokens: Ints, owner: Ints, seed: int) -> Ints:
    """At most `_MAX_QUERIES_PER_MEMBER` tokens of each member, at random, in order."""
    shuffled = np.random.default_rng(seed).permutation(tokens)
    shuffled = shuffled[np.argsort(owner[shuffled], kind="stable")]
    whose = owner[shuffled]
    nth = np.arange(len(whose)) - np.searchsorted(whose, whose)
    return np.sort(shuffled[nth < _MAX_QUERIES_PER_MEMBER])


def _slices(plays: Ints, targets: Ints, known_tokens: Ints) -> dict[str, npt.NDArray[np.bool_]]:
    """Cold: never played before; tail: played, but outside the titles that make up half of all plays; new members."""
    order = np.argsort(-plays, kind="stable")
    ahead = np.empty(len(plays), np.float64)
    ahead[order] = np.cumsum(plays[order]) - plays[order]
    tail = (ahead >= _HEAD_PLAYS_SHARE * plays.sum()) & (plays > 0)
    return {"cold_titles": plays[targets] == 0, "tail_titles": tail[targets], "new_members": known_tokens == 0}


def with_plays_of(part: pa.Table, histories: pa.Table, catalogue: pa.Table) -> pa.Table:
    """The catalogue with the plays of a part of the histories, in proportion, whatever it counts as a play."""
    title_ids = catalogue[schema.TITLE_ID].combine_chunks()
    share = event_counts(part, title_ids) / np.maximum(event_counts(histories, title_ids), 1)
    plays = np.rint(np.asarray(pc.fill_null(catalogue["plays"], 0)) * share).astype(np.int64)
    return catalogue.set_column(catalogue.schema.get_field_index("plays"), "plays", pa.array(plays))
