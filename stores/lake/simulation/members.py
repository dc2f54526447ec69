"""The members of the simulated service: tastes that drift, habits, arrivals and departures.

Member positions run from 0; the id of a member is the position + 1.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stores import schema
from stores.lake.simulation.catalogue import COUNTRIES
from stores.lake.simulation.config import DAY_S, SimulationConfig

DEVICES = ("tv", "phone", "tablet", "web")
LOCALES = ("en-US", "en-GB", "de-DE", "pt-BR", "hi-IN", "ja-JP", "fr-FR", "ko-KR")
"""The usual locale of each of COUNTRIES."""
EVENING_UTC = (25.5, 20.0, 19.0, 23.0, 15.0, 12.0, 19.5, 12.0)
"""The hour, in UTC and counted from the day's start, at which the evening of each of COUNTRIES is at its peak."""
ADULT = 18
REMEMBERED = 48
"""Titles that a member recalls having watched; bounds the memory of the simulation."""


@dataclass(frozen=True)
class Members:
    """One entry per member in every array; the mixtures are (members, clusters) and their rows sum to 1."""

    taste_start: NDArray[np.float32]
    taste_end: NDArray[np.float32]
    joined_day: NDArray[np.int64]
    left_day: NDArray[np.int64]
    """First day without the member."""
    session_rate: NDArray[np.float32]
    """Expected sessions on a usual day."""
    country: NDArray[np.int8]
    other_locale: NDArray[np.bool_]
    maturity: NDArray[np.int64]
    hour: NDArray[np.float32]
    device: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.country)

    def tastes(self, members: NDArray[np.int64], progress: float) -> NDArray[np.float32]:
        """The mixtures of some members after a share `progress` of the days: (members, clusters)."""
        return (1 - progress) * self.taste_start[members] + progress * self.taste_end[members]

    def locales(self) -> list[str]:
        """The locale of each member."""
        return [LOCALES[0 if other else c] for c, other in zip(self.country, self.other_locale, strict=True)]


@dataclass(frozen=True)
class Memory:
    """What members have watched so far, changed in place day by day."""

    recent: NDArray[np.int32]
    """(members, REMEMBERED) title positions, -1 where there is none yet."""
    watched: NDArray[np.int64]
    """How many titles each member has watched."""
    last: NDArray[np.int64]
    """The title watched last, -1 for none."""

    @staticmethod
    def empty(members: int) -> "Memory":
        """The memory of an audience that has watched nothing."""
        recent = np.full((members, REMEMBERED), -1, np.int32)
        return Memory(recent, np.zeros(members, np.int64), np.full(members, -1))

    def remember(self, members: NDArray[np.int64], titles: NDArray[np.int64]) -> None:
        """Note that each of some different members watched a title."""
        self.recent[members, self.watched[members] % REMEMBERED] = titles
        self.watched[members] += 1
        self.last[members] = titles


def plant_members(config: SimulationConfig, clusters: int) -> Members:
    """Draw the members of a configuration."""
    rng = np.random.default_rng([config.seed, 3])
    count = config.members
    appeal = config.taste_concentration * clusters * rng.dirichlet(np.full(clusters, 8.0))
    start, fresh = _mixtures(rng, appeal, count), _mixtures(rng, appeal, count)
    joined = np.where(rng.random(count) < config.newcomer_share, rng.integers(0, config.days, count), 0)
    left = rng.integers(joined + 1, config.days + 1)
    rate = rng.gamma(1.5, 1 / 1.5, count) * config.sessions_per_day
    country = rng.choice(len(COUNTRIES), size=count, p=(0.35, 0.12, 0.1, 0.13, 0.12, 0.08, 0.06, 0.04))
    return Members(
        taste_start=start,
        taste_end=(1 - config.drift) * start + config.drift * fresh,
        joined_day=joined,
        left_day=np.where(rng.random(count) < config.leaver_share, left, config.days),
        session_rate=rate.astype(np.float32),
        country=country.astype(np.int8),
        other_locale=rng.random(count) < 0.1,
        maturity=rng.choice((7, 13, ADULT), size=count, p=(0.05, 0.05, 0.9)),
        hour=(np.array(EVENING_UTC)[country] + rng.normal(0, 1.5, count)).astype(np.float32),
        device=rng.choice(len(DEVICES), size=count, p=(0.5, 0.3, 0.08, 0.12)).astype(np.int8),
    )


def _mixtures(rng: np.random.Generator, alpha: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """Dirichlet rows; a little of everything keeps the logarithm of a taste finite."""
    mixtures = 0.98 * rng.dirichlet(alpha, size=count).astype(np.float32) + np.float32(0.02 / len(alpha))
    return np.asarray(mixtures / mixtures.sum(axis=1, keepdims=True), np.float32)


def member_table(audience: Members) -> pa.Table:
    """The members as the lake has them."""
    return pa.table(
        {
            schema.MEMBER_ID: np.arange(1, len(audience) + 1),
            schema.COUNTRY: [COUNTRIES[c] for c in audience.country],
            "maturity": audience.maturity,
            schema.LOCALE: audience.locales(),
        }
    )


def truth_table(config: SimulationConfig, audience: Members) -> pa.Table:
    """What was planted, per member: both mixtures (list<float32>, one share per cluster), joined_at, left_at."""
    clusters = audience.taste_start.shape[1]
    times = {
        name: pa.array((config.first_day + day) * DAY_S * 1_000_000).cast(schema.TIMESTAMP_TYPE)
        for name, day in (("joined_at", audience.joined_day), ("left_at", audience.left_day))
    }
    return pa.table(
        {
            schema.MEMBER_ID: np.arange(1, len(audience) + 1),
            "taste_start": pa.FixedSizeListArray.from_arrays(pa.array(audience.taste_start.ravel()), clusters),
            "taste_end": pa.FixedSizeListArray.from_arrays(pa.array(audience.taste_end.ravel()), clusters),
            **times,
        }
    )
