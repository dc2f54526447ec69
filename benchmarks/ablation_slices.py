"""What an ablation measures: for each slice one value per question, member or title, and paired differences of them.

`ndcg` is without a cut (1 / log₂(rank + 2) of each answer), the least noisy; all other rankings are HR@10. `half`
uses the first half of the vectors, `48h` histories that are two days old, `cold` asks titles that nobody had played,
`through` what was then watched to four fifths. `genre`: is the head's best genre one of the answer's. On a simulated
lake `tastes` is the share of the 20 unseen titles that a member would truly like best (planted taste and quality,
whatever was shown) among the model's 20 best, and `neighbours` the share of the same planted cluster among the ten
nearest of a title that nobody played.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.foundation import FoundationEncoder
from embeddings.foundation.evaluation_queries import EventTable, event_counts, histories_before
from embeddings.foundation.evaluation_splits import EvalSplit, with_plays_of
from embeddings.foundation.metrics import TOP_K, Ranking, inner_product_scorer, ndcg_gains, rank_titles
from stores import schema

TASTES, LIKED, NEAREST = 1.2, 20, 10
"""Weight of a title's quality beside the logarithm of the taste, as simulated; titles truly liked; neighbours."""
STALE_S, LAST, THROUGH = 48 * 3600, 3, 0.8


@dataclass(frozen=True)
class Slice:
    """A value for each key; those of one owner are no independent evidence."""

    keys: np.ndarray
    owners: np.ndarray
    values: np.ndarray

    @property
    def mean(self) -> float:
        """Of all values; NaN where there are none."""
        return float(self.values.mean()) if len(self.values) else float("nan")


def difference(ours: list[Slice], other: list[Slice]) -> tuple[float, float]:
    """The mean difference on what both have, over seeds, and half of its 95 % interval, owners as drawn at random."""
    apart, owners = [], []
    for one, two in zip(ours, other, strict=False):
        _, here, there = np.intersect1d(one.keys, two.keys, return_indices=True)
        apart.append(one.values[here].astype(float) - two.values[there])
        owners.append(one.owners[here])
    values, owner = np.concatenate(apart), np.unique(np.concatenate(owners), return_inverse=True)[1]
    if not len(values):
        return float("nan"), float("nan")
    sums = np.bincount(owner, values - values.mean())
    return float(values.mean()), float(1.96 * np.sqrt((sums**2).sum()) / len(values))


def last_three(histories: pa.Table, catalogue: pa.Table) -> EvalSplit:
    """Asks the last three new titles of each member, learns from what came before: more answers of few members."""
    title_ids = catalogue[schema.TITLE_ID].combine_chunks()
    events = EventTable.of(histories, title_ids)
    new = np.flatnonzero(events.new & (events.positions() > 0))
    left = np.bincount(events.owner[new], minlength=len(histories)).cumsum()[events.owner[new]] - np.arange(len(new))
    asked = new[left <= LAST]
    first = asked[np.diff(events.owner[asked], prepend=-1) > 0]
    part = histories_before(histories, title_ids, first)
    known = with_plays_of(part, histories, catalogue)
    met = known.filter(pa.array(event_counts(part, title_ids) > 0))
    return EvalSplit("last-three", histories, part, known, met, asked, {})


def measure(exam: EvalSplit, encoder: FoundationEncoder, truth: Path) -> dict[str, Slice]:
    """All slices that there are for a model."""
    titles, fresh = encoder.encode_titles(exam.candidates), encoder.encode_members(exam.queries.histories)
    owners = (
        np.searchsorted(EventTable.of(exam.histories, exam.title_ids).starts, exam.query_positions, side="right") - 1
    )
    keys, half = owners * (1 + len(titles)) + exam.queries.targets, titles.shape[1] // 2
    whole = _ranked(exam, fresh, titles)
    asked = {
        "ndcg": ndcg_gains(whole.ranks),
        "hr": whole.ranks < TOP_K,
        "half": _ranked(exam, fresh[:, :half], titles[:, :half]).ranks < TOP_K,
        "genre": _genre_hits(exam, encoder),
    }
    found = {name: Slice(keys, owners, values) for name, values in asked.items()}
    for name, chosen in {"cold": exam.slices.get("cold_titles"), "through": _watched_through(exam)}.items():
        if chosen is not None and chosen.any():
            found[name] = Slice(keys[chosen], owners[chosen], asked["hr"][chosen])
    if exam.protocol == "time-split":
        old = encoder.encode_members(exam.stale_queries(STALE_S).histories)
        found["48h"] = Slice(keys, owners, _ranked(exam, old, titles).ranks < TOP_K)
    if truth.exists():
        found["tastes"] = _true_tastes(truth, exam, encoder.encode_members(exam.train_part) @ titles.T)
        found["neighbours"] = _cold_neighbours(truth, exam, titles)
    return found


def _ranked(exam: EvalSplit, members: np.ndarray, titles: np.ndarray) -> Ranking:
    return rank_titles(inner_product_scorer(members, titles), exam.queries, len(titles))


def _watched_through(exam: EvalSplit) -> np.ndarray:
    duration = (
        exam.histories[schema.DURATION].combine_chunks().flatten().to_numpy(zero_copy_only=False)[exam.query_positions]
    )
    runtime = exam.candidates["runtime_s"].to_numpy(zero_copy_only=False)[exam.queries.targets]
    return np.nan_to_num(duration) >= THROUGH * np.where(runtime > 0, runtime, np.inf)


def _genre_hits(exam: EvalSplit, encoder: FoundationEncoder) -> np.ndarray:
    first = [genres[0] if genres else None for genres in _preferred(exam, encoder)]
    genres = exam.candidates["genres"].to_pylist()
    return np.array([one in (genres[t] or ()) for one, t in zip(first, exam.queries.targets, strict=True)])


def _preferred(exam: EvalSplit, encoder: FoundationEncoder) -> list[list[str] | None]:
    found: list[list[str] | None] = encoder.preferences(exam.queries.histories)["genres"].to_pylist()
    return found


def _true_tastes(truth: Path, exam: EvalSplit, scores: np.ndarray) -> Slice:
    members, titles = (pq.read_table(truth / f"{name}.parquet") for name in ("members", "titles"))
    rows = pc.index_in(exam.train_part[schema.MEMBER_ID], members[schema.MEMBER_ID].combine_chunks()).to_numpy()
    known = titles.take(pc.index_in(exam.title_ids, titles[schema.TITLE_ID].combine_chunks()))
    taste = np.array(members["taste_end"].to_pylist())[rows][:, known["cluster"].to_numpy()]
    liked = np.log(taste) + TASTES * known["quality"].to_numpy()
    events, barred = EventTable.of(exam.train_part, exam.title_ids), np.zeros(liked.shape, bool)
    barred[events.owner, events.titles] = True
    barred[:, exam.candidates["age_days"].to_numpy() < 0] = True
    best, found = (np.argsort(-np.where(barred, -np.inf, values), axis=1)[:, :LIKED] for values in (liked, scores))
    shares = np.array([len(np.intersect1d(a, b)) / LIKED for a, b in zip(best, found, strict=True)])
    return Slice(rows, rows, shares)


def _cold_neighbours(truth: Path, exam: EvalSplit, titles: np.ndarray) -> Slice:
    table = pq.read_table(truth / "titles.parquet")
    rows = pc.index_in(exam.title_ids, table[schema.TITLE_ID].combine_chunks()).to_numpy()
    cluster, likeness = table["cluster"].to_numpy()[rows], titles @ titles.T
    np.fill_diagonal(likeness, -np.inf)
    alike = (cluster[np.argsort(-likeness, axis=1)[:, :NEAREST]] == cluster[:, None]).mean(axis=1)
    unplayed = np.flatnonzero(event_counts(exam.train_part, exam.title_ids) == 0)
    return Slice(unplayed, unplayed, alike[unplayed])
