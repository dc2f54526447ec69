"""The two protocols of evaluation: which part may be learned from, and which questions are asked."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.queries import Events, Queries, ask, before, counts, cut, last_new
from stores import columns

_TEST_SHARE = 0.1
_PER_MEMBER = 5
_HEAD_SHARE = 0.5
_DAY = 86_400

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exam:
    """Histories, the part to learn from, the catalogue as of then, and the tokens that are asked."""

    protocol: str
    histories: pa.Table
    part: pa.Table
    catalogue: pa.Table
    """The whole catalogue with the plays and ages of the training part: what a model may be trained with."""
    candidates: pa.Table
    """Its rows that are ranked."""
    asked: Ints
    slices: dict[str, npt.NDArray[np.bool_]]

    @property
    def title_ids(self) -> pa.Array:
        """Ids of the candidates."""
        return self.candidates[columns.TITLE_ID].combine_chunks()

    @cached_property
    def queries(self) -> Queries:
        """The questions, each with all that came before it."""
        return ask(self.histories, self.title_ids, self.asked)

    def stale(self, seconds: int) -> Queries:
        """The same questions with histories that end so many seconds earlier."""
        return ask(self.histories, self.title_ids, self.asked, seconds)


def leave_one_out(histories: pa.Table, catalogue: pa.Table) -> Exam:
    """Asks the last new title of each member; a member's history ends there."""
    title_ids = catalogue[columns.TITLE_ID].combine_chunks()
    asked = last_new(histories, title_ids)
    part = before(histories, title_ids, asked)
    known = with_plays_of(part, histories, catalogue)
    met = counts(part, title_ids) > 0
    return Exam("leave-one-out", histories, part, known, known.filter(pa.array(met)), asked, {})


def time_split(histories: pa.Table, catalogue: pa.Table, seed: int = 0, test_share: float = _TEST_SHARE) -> Exam:
    """Asks what is newly met in the last tenth (or another share) of all tokens, learns from what ended before it."""
    title_ids = catalogue[columns.TITLE_ID].combine_chunks()
    events = Events.of(histories, title_ids)
    moment = int(np.quantile(events.last, 1 - test_share, method="higher")) if len(events.last) else 0
    ends = np.bincount(events.owner[events.last < moment], minlength=len(histories))
    part = cut(histories, np.arange(len(histories)), ends)
    known = _aged(with_plays_of(part, histories, catalogue), catalogue, events, moment)
    asked = _sampled(np.flatnonzero(events.new & (events.first >= moment)), events.owner, seed)
    plays = counts(part, title_ids)
    slices = _slices(plays, events.titles[asked], ends[events.owner[asked]])
    return Exam("time-split", histories, part, known, known, asked, slices)


def _sampled(tokens: Ints, owner: Ints, seed: int) -> Ints:
    """At most `_PER_MEMBER` tokens of each member, at random, in order."""
    shuffled = np.random.default_rng(seed).permutation(tokens)
    shuffled = shuffled[np.argsort(owner[shuffled], kind="stable")]
    whose = owner[shuffled]
    nth = np.arange(len(whose)) - np.searchsorted(whose, whose)
    return np.sort(shuffled[nth < _PER_MEMBER])


def _slices(plays: Ints, targets: Ints, known_tokens: Ints) -> dict[str, npt.NDArray[np.bool_]]:
    """Cold: never played before; tail: played, but outside the titles that make up half of all plays; new members."""
    order = np.argsort(-plays, kind="stable")
    ahead = np.empty(len(plays), np.float64)
    ahead[order] = np.cumsum(plays[order]) - plays[order]
    tail = (ahead >= _HEAD_SHARE * plays.sum()) & (plays > 0)
    return {"cold_titles": plays[targets] == 0, "tail_titles": tail[targets], "new_members": known_tokens == 0}


def with_plays_of(part: pa.Table, histories: pa.Table, catalogue: pa.Table) -> pa.Table:
    """The catalogue with the plays of a part of the histories, in proportion, whatever it counts as a play."""
    title_ids = catalogue[columns.TITLE_ID].combine_chunks()
    share = counts(part, title_ids) / np.maximum(counts(histories, title_ids), 1)
    plays = np.rint(np.asarray(pc.fill_null(catalogue["plays"], 0)) * share).astype(np.int64)
    return catalogue.set_column(catalogue.schema.get_field_index("plays"), "plays", pa.array(plays))


def _aged(known: pa.Table, catalogue: pa.Table, events: Events, moment: int) -> pa.Table:
    """With ages as of the moment of the split instead of the last event."""
    younger = (int(events.last.max(initial=moment)) - moment) / _DAY
    ages = catalogue["age_days"].to_numpy() - younger
    return known.set_column(known.schema.get_field_index("age_days"), "age_days", pa.array(ages))
