"""The policy that fills a slate: biased by popularity, by position, by promotion, and by what was watched last."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.lake.simulation.catalogue import Catalogue, Ints

SURFACES = ("continue", "for_you", "trending", "new")
CONTINUE, FOR_YOU, TRENDING, NEW = range(4)
SOURCE_SHARES = (0.7, 0.15, 0.15)
"""How often a place is filled from FOR_YOU, TRENDING and NEW."""
CONTINUE_SHARE = 0.85
"""How often the first place shows the next part of the title watched last."""
PROMOTION, PROMOTION_DAYS = 2.0, 7.0
"""A launch multiplies a title's weight by up to 1 + PROMOTION, fading with this time constant."""


@dataclass(frozen=True)
class Slate:
    """What a page shows: three (rows, places) arrays, best place first."""

    titles: Ints
    surfaces: NDArray[np.int8]
    shown: NDArray[np.bool_]
    """False where a place stays empty: nothing fit, or the title is on the page already."""

    @property
    def positions(self) -> Ints:
        """The place of each shown title, counted from 0 without the empty ones."""
        return np.cumsum(self.shown, axis=1) - 1


class SlatePolicy:
    """The policy on one day; nothing is offered before its launch."""

    def __init__(self, catalogue: Catalogue, day: int) -> None:
        self.catalogue = catalogue
        age = day - catalogue.launch_day
        self.launched = age >= 0
        fresh = np.exp(-np.maximum(age, 0) / PROMOTION_DAYS)
        self.weight = np.where(self.launched, catalogue.weight * (1 + PROMOTION * fresh), 0.0)
        self.order = np.argsort(catalogue.cluster, kind="stable")
        self.by_cluster = np.cumsum(self.weight[self.order])
        sizes = np.bincount(catalogue.cluster)
        self.edges = np.concatenate([[0.0], self.by_cluster[np.cumsum(sizes) - 1]])
        self.trending = np.cumsum(self.weight**1.5)
        self.new = np.cumsum(self.weight * np.exp(-np.maximum(age, 0) / (2 * PROMOTION_DAYS)))

    def liked(self, rng: np.random.Generator, tastes: NDArray[np.float32], places: int) -> Ints:
        """Titles drawn by taste and popularity, `places` for each row of tastes: (rows, places)."""
        shares = np.cumsum(tastes, axis=1, dtype=np.float64)
        chance = rng.random((len(tastes), places, 1)) * shares[:, None, -1:]
        cluster = np.minimum((chance >= shares[:, None, :]).sum(axis=2), tastes.shape[1] - 1)
        low, high = self.edges[cluster], self.edges[cluster + 1]
        found = np.searchsorted(self.by_cluster, low + rng.random(low.shape) * (high - low), side="right")
        return np.asarray(self.order[np.minimum(found, len(self.order) - 1)])

    def next_parts(self, last: Ints) -> Ints:
        """The launched title that continues each title of `last`; −1 where there is none."""
        following = np.where(last >= 0, self.catalogue.follow_up[last], -1)
        return np.where((following >= 0) & self.launched[following], following, -1)

    def allowed(self, titles: Ints, countries: NDArray[np.int8], maturity: Ints) -> NDArray[np.bool_]:
        """Whether each title (rows, places) is launched, available and suitable for the member of its row."""
        suitable = self.catalogue.maturity[titles] <= maturity[:, None]
        return self.launched[titles] & suitable & self.catalogue.available[countries[:, None], titles]

    def propose(self, rng: np.random.Generator, tastes: NDArray[np.float32], last: Ints, places: int) -> Slate:
        """Fill slates of `places` titles for members with these tastes and last titles; all places count as shown."""
        shape = (len(tastes), places)
        surfaces = 1 + np.searchsorted(np.cumsum(SOURCE_SHARES)[:-1], rng.random(shape), side="right").astype(np.int8)
        titles = self.liked(rng, tastes, places)
        for surface, popularity in ((TRENDING, self.trending), (NEW, self.new)):
            here = surfaces == surface
            titles[here] = self._popular(rng, popularity, int(here.sum()))
        score = np.log(self.weight[titles] + 1e-9) + rng.gumbel(size=shape)
        order = np.argsort(-score, axis=1, kind="stable")
        titles, surfaces = np.take_along_axis(titles, order, 1), np.take_along_axis(surfaces, order, 1)
        following = self.next_parts(last)
        continued = (following >= 0) & (rng.random(len(last)) < CONTINUE_SHARE)
        titles[continued, 0], surfaces[continued, 0] = following[continued], CONTINUE
        return Slate(titles, surfaces, np.ones(shape, np.bool_))

    @staticmethod
    def _popular(rng: np.random.Generator, popularity: NDArray[np.float64], count: int) -> Ints:
        found = np.searchsorted(popularity, rng.random(count) * popularity[-1], side="right")
        return np.asarray(np.minimum(found, len(popularity) - 1))


def first_of_each(titles: Ints) -> NDArray[np.bool_]:
    """True where a title appears for the first time in its row: (rows, places)."""
    same = titles[:, :, None] == titles[:, None, :]
    return np.asarray(~np.tril(same, -1).any(axis=2))
