"""Full-ranking metrics of next-title questions that have one right answer each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from embeddings.foundation.evaluation_queries import Queries

TOP_K = 10
_MAX_SCORE_CELLS = 8_000_000

Scores = npt.NDArray[np.float32]
Scorer = Callable[[int, int], Scores]
"""Of questions from begin to before end: (end - begin, titles) scores, bigger is better."""


@dataclass(frozen=True)
class Ranking:
    """Per question the 0-based rank of the answer among titles not seen, and the top K (−1 where fewer are left).

    An answer that is no candidate ranks after all titles.
    """

    ranks: npt.NDArray[np.int64]
    top: npt.NDArray[np.int64]
    titles: int

    def full_ndcg(self) -> float:
        """NDCG without a cut: the mean of the `gains`. Far less noisy than NDCG@10, so made for choosing."""
        return float(ndcg_gains(self.ranks).mean()) if len(self.ranks) else 0.0

    def metrics(self, chosen: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
        """hr@10, ndcg@10 and coverage@10 (share of the titles in any top ten) of the chosen questions."""
        ranks, top = (self.ranks, self.top) if chosen is None else (self.ranks[chosen], self.top[chosen])
        if not len(ranks):
            return {"hr@10": 0.0, "ndcg@10": 0.0, "coverage@10": 0.0}
        hit = ranks < TOP_K
        gain = np.where(hit, ndcg_gains(ranks), 0.0)
        shown = np.unique(top[top >= 0])
        return {
            "hr@10": float(hit.mean()),
            "ndcg@10": float(gain.mean()),
            "coverage@10": len(shown) / max(1, self.titles),
        }


def ndcg_gains(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 / log₂(rank + 2) of 0-based ranks, in their shape: the NDCG of one right answer there.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002).
    """
    found: npt.NDArray[np.float64] = 1 / np.log2(ranks + 2.0)
    return found


def rank_titles(scorer: Scorer, queries: Queries, titles: int) -> Ranking:
    """Rank all titles that a question has not seen; equal scores rank by row, so the order is stable."""
    ranks = np.zeros(len(queries), np.int64)
    top = np.full((len(queries), TOP_K), -1, np.int64)
    step = max(1, _MAX_SCORE_CELLS // max(1, titles))
    for begin in range(0, len(queries), step):
        end = min(begin + step, len(queries))
        scores = _mask_seen(scorer(begin, end), queries, begin, end)
        ranks[begin:end] = _target_ranks(scores, queries.targets[begin:end])
        values, indices = torch.topk(torch.from_numpy(scores), min(TOP_K, titles), dim=1)
        top[begin:end, : min(TOP_K, titles)] = torch.where(torch.isfinite(values), indices, -1).numpy()
    return Ranking(ranks, top, titles)


def inner_product_scorer(members: Scores, titles: Scores) -> Scorer:
    """Scores by inner product of (n, d) members and (m, d) titles.

    A vector that is not finite is no answer: such a title ranks after all others, such a member finds nothing.
    """
    lost, unranked = (np.flatnonzero(~np.isfinite(vectors).all(axis=1)) for vectors in (members, titles))
    if not len(lost) and not len(unranked):
        return lambda begin, end: members[begin:end] @ titles.T
    members, titles = np.array(members), np.array(titles)
    members[lost], titles[unranked] = 0, 0

    def score(begin: int, end: int) -> Scores:
        scores: Scores = members[begin:end] @ titles.T
        scores[:, unranked] = -np.inf
        scores[lost[(lost >= begin) & (lost < end)] - begin] = -np.inf
        return scores

    return score


def _mask_seen(scores: Scores, queries: Queries, begin: int, end: int) -> Scores:
    scores = np.array(scores, np.float32)
    starts = queries.seen_starts[begin : end + 1]
    titles = queries.seen[starts[0] : starts[-1]]
    rows = np.repeat(np.arange(end - begin), np.diff(starts))
    scores[rows[titles >= 0], titles[titles >= 0]] = -np.inf
    return scores


def _target_ranks(scores: Scores, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many titles come before the target; as many as there are (K or more) where it is no candidate or seen."""
    own = scores[np.arange(len(targets)), targets][:, None]
    before = np.arange(scores.shape[1])[None, :] < targets[:, None]
    ahead = (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
    missed = (targets < 0) | ~np.isfinite(own[:, 0])
    result: npt.NDArray[np.int64] = np.where(missed, max(scores.shape[1], TOP_K), ahead)
    return result
