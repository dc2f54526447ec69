"""What the events of a night look like as a whole, counted while they stream by: days, countries, durations.

The gate compares these figures with earlier nights', which is how it notices minutes in a column of
seconds, a country whose files are missing, or a past day that was lost. Memory does not grow with events.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.events import Events, Ints
from embeddings.histories_config import HistoriesConfig
from stores.columns import COUNTRY

DAYS, COUNTRIES = 14, 100
MICROS_PER_DAY = 86_400_000_000
BINS_PER_OCTAVE, OCTAVES = 32, 24
"""Durations from 1 s to 2²⁴ s have geometric bins, each 2.2 % wide; those outside fall into the first and last."""


class EventProfile:
    """Counts of the accepted events; the *last day* is the 24 hours that end with the newest event."""

    def __init__(self, newest: int, config: HistoriesConfig) -> None:
        self.newest, self.config = newest, config
        self.days = np.zeros(DAYS, np.int64)
        self.countries: Counter[str] = Counter()
        self.last_day = 0
        self.last_countries: Counter[str] = Counter()
        self.durations = np.zeros((len(config.actions) + 1, BINS_PER_OCTAVE * OCTAVES), np.int64)

    def add(self, events: Events) -> None:
        """Count a block of events."""
        ago = self.newest // MICROS_PER_DAY - events.time // MICROS_PER_DAY
        self.days += np.bincount(ago[ago < DAYS], minlength=DAYS)
        self.countries.update(_counted(events.texts[COUNTRY]))
        late = events.time > self.newest - MICROS_PER_DAY
        self.last_day += int(late.sum())
        self.last_countries.update(_counted(events.texts[COUNTRY].filter(pa.array(late))))
        timed = late & (events.duration > 0)
        np.add.at(self.durations, (events.action[timed], _bins(events.duration[timed])), 1)

    def metrics(self) -> dict[str, Any]:
        """JSON-able figures.

        `days`: events by day (UTC), the newest first; `countries`: events by country; `last_day`: its events,
        those by country, and of each watch action the median duration in seconds over `count` events.
        """
        first = self.newest // MICROS_PER_DAY
        dates = [datetime.fromtimestamp((first - ago) * 86_400, UTC).date().isoformat() for ago in range(DAYS)]
        return {
            "days": {day: count for day, count in zip(dates, self.days.tolist(), strict=True) if count},
            "countries": dict(self.countries.most_common(COUNTRIES)),
            "last_day": {
                "events": self.last_day,
                "countries": dict(self.last_countries.most_common(COUNTRIES)),
                "durations": self._durations(),
            },
        }

    def _durations(self) -> dict[str, dict[str, Any]]:
        found = {}
        for code, action in enumerate(self.config.actions, 1):
            count = int(self.durations[code].sum())
            if count and action in self.config.watch_actions:
                middle = int(np.searchsorted(np.cumsum(self.durations[code]), (count + 1) // 2))
                found[action] = {"median_s": round(2.0 ** ((middle + 0.5) / BINS_PER_OCTAVE), 2), "count": count}
        return found


def _bins(seconds: npt.NDArray[np.float64]) -> Ints:
    place = np.floor(np.log2(np.maximum(seconds, 1.0)) * BINS_PER_OCTAVE)
    return np.asarray(np.minimum(place, BINS_PER_OCTAVE * OCTAVES - 1), np.int64)


def _counted(names: pa.DictionaryArray) -> dict[str, int]:
    """Rows by name; rows without one are not counted."""
    pairs = pc.value_counts(names.indices.drop_null()).to_pylist()
    words = names.dictionary.to_pylist()
    return {words[pair["values"]]: pair["counts"] for pair in pairs if words[pair["values"]] is not None}
