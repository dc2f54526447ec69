"""Two rankers that a downstream team may have trained on vectors of one night, and their score on another night's.

Both rank pairs of a member and a title by learnt coefficients of single coordinates, which is what a retrained
model breaks. Half of the members train, the other half are ranked; the score is the AUC, 0.5 is chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ten_nights import Matrix, Night

Array = NDArray[np.float64]
RECENT, NEGATIVES, HEADS = 5, 4, 200


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of members and titles of a night, whether each pair was played, and whose pairs train."""

    member: NDArray[np.int64]
    title: NDArray[np.int64]
    played: Array
    trains: NDArray[np.bool_]

    @classmethod
    def of(cls, night: Night, members: NDArray[np.int64]) -> "Pairs":
        """Last plays and the held-out one of `members` (ids), with titles drawn by popularity that were not."""
        generator = np.random.default_rng(0)
        popularity = night.plays / night.plays.sum()
        place = {member: row for row, member in enumerate(night.member_ids.tolist())}
        found = []
        for member in members.tolist():
            row = place[member]
            played = [*night.questions.seen[row][-RECENT:], night.questions.target[row]]
            others = generator.choice(len(popularity), NEGATIVES * len(played), p=popularity)
            found += [(row, title, at < len(played), trains(member)) for at, title in enumerate([*played, *others])]
        member, title, label, side = (np.array(column) for column in zip(*found, strict=True))
        return cls(member, title, label.astype(float), side)


def trains(member: int) -> bool:
    """Whether a member is in the half that trains: by the id, so alike on every night."""
    return bool(np.random.default_rng([7, member]).random() < 0.5)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Linear coefficients (d, outputs) learnt with a `penalty` in units of the mean energy of a feature."""

    coefficients: Array
    mean: Array

    @classmethod
    def fit(cls, x: Matrix, y: Array, penalty: float) -> "Ridge":
        """Least squares on rows x (n, d) and targets y (n,) or (n, outputs)."""
        mean = x.mean(axis=0, dtype=np.float64)
        centred = x - mean
        moment = centred.T @ centred
        damped = moment + penalty * np.trace(moment) / len(moment) * np.eye(len(moment))
        return cls(np.linalg.solve(damped, centred.T @ (y - y.mean(axis=0))), mean)

    def predict(self, x: Matrix) -> Array:
        """Scores of rows x (n, d)."""
        return np.asarray((x - self.mean) @ self.coefficients)


class PairRanker:
    """Coefficients of member ∘ title, coordinate by coordinate.

    It keeps its own copy of the titles' vectors, as of the night it was trained, and reads members' every night.
    """

    def __init__(self, pairs: Pairs, members: Matrix, titles: Matrix) -> None:
        x = members[pairs.member] * titles[pairs.title]
        self.titles, self.model = titles, Ridge.fit(x[pairs.trains], pairs.played[pairs.trains], penalty=0.1)

    def score(self, pairs: Pairs, members: Matrix) -> float:
        """AUC over the pairs of the members that did not train."""
        x = members[pairs.member] * self.titles[pairs.title]
        return auc(self.model.predict(x)[~pairs.trains], pairs.played[~pairs.trains])


class HeadRanker:
    """One linear head on the member's vector for each of the most played titles."""

    def __init__(self, night: Night, members: Matrix, who: NDArray[np.int64]) -> None:
        self.heads, self.who = np.argsort(-night.plays)[:HEADS], who
        x, y, side = self._rows(night, members)
        self.model = Ridge.fit(x[side], y[side], penalty=1.0)

    def score(self, night: Night, members: Matrix) -> float:
        """Mean AUC of the heads over the members that did not train: whom each title suits, so popularity is out."""
        x, y, side = self._rows(night, members)
        predicted = self.model.predict(x[~side])
        columns = zip(predicted.T, y[~side].T, strict=True)
        return float(np.mean([auc(scores, played) for scores, played in columns if 0 < played.sum() < len(played)]))

    def _rows(self, night: Night, members: Matrix) -> tuple[Matrix, Array, NDArray[np.bool_]]:
        place: dict[Any, int] = {member: row for row, member in enumerate(night.member_ids.tolist())}
        rows = [place[member] for member in self.who.tolist()]
        played = [{*night.questions.seen[row].tolist(), int(night.questions.target[row])} for row in rows]
        y = np.array([[head in titles for head in self.heads.tolist()] for titles in played], float)
        return members[rows], y, np.array([trains(member) for member in self.who.tolist()])


def auc(scores: Array, played: Array) -> float:
    """Chance that a played one has the higher score; ties count half."""
    order = np.sort(scores[played == 0])
    above = np.searchsorted(order, scores[played > 0], "left") + np.searchsorted(order, scores[played > 0], "right")
    return float(above.mean() / 2 / len(order))
