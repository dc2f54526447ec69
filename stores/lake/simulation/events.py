"""What one day of a block of members leaves behind: the logs of interactions and of impressions."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stores import columns
from stores.lake.simulation.audience import DEVICES, LOCALES, Audience
from stores.lake.simulation.config import DAY_S
from stores.lake.simulation.exposure import SURFACES, Slate
from stores.lake.simulation.service import COUNTRIES, Floats, Ints

Flags = NDArray[np.bool_]

INTERACTION_SCHEMA = pa.schema(
    [
        pa.field(columns.MEMBER_ID, pa.int64()),
        pa.field(columns.TITLE_ID, pa.int64()),
        pa.field(columns.EVENT_TIME, columns.TIME),
        pa.field(columns.ACTION, pa.string()),
        pa.field(columns.DURATION, pa.float64()),
        pa.field(columns.VALUE, pa.float64()),
        pa.field(columns.DEVICE, pa.string()),
        pa.field(columns.COUNTRY, pa.string()),
        pa.field(columns.LOCALE, pa.string()),
    ]
)
IMPRESSION_SCHEMA = pa.schema(
    [
        pa.field(columns.MEMBER_ID, pa.int64()),
        pa.field(columns.TITLE_ID, pa.int64()),
        pa.field("shown_at", columns.TIME),
        pa.field("position", pa.int64()),
        pa.field("surface", pa.string()),
    ]
)


def epoch_times(first_day: int, day: int, seconds: Ints) -> pa.Array:
    """Seconds of a simulated day as times in UTC."""
    return pa.array(((first_day + day) * DAY_S + seconds) * 1_000_000).cast(columns.TIME)


def _names(values: tuple[str, ...], codes: NDArray[np.int8]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(values)).cast(pa.string())


class EventLog:
    """Interactions as they happen; `table` puts them into the order of time."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints, NDArray[np.int8], Floats, Floats, NDArray[np.int8]]] = []

    def noter(self, members: Ints, titles: Ints, devices: NDArray[np.int8]) -> Callable[..., None]:
        """A function `note(action, seconds, which, duration=…, value=…)` for these members with these titles.

        It writes down the action where `which` is true and the moment is still on this day; durations and
        values are float64, NaN (stored as null) where there is none.
        """

        def note(
            action: str, seconds: Ints, which: Flags, duration: Floats | None = None, value: Floats | None = None
        ) -> None:
            rows = np.flatnonzero(which & (seconds < DAY_S))
            empty = np.full(len(rows), np.nan)
            lasted = empty if duration is None else duration[rows]
            worth = empty if value is None else value[rows]
            code = np.full(len(rows), columns.ACTIONS.index(action), np.int8)
            self._parts.append((members[rows], titles[rows], seconds[rows], devices[rows], lasted, worth, code))

        return note

    def table(self, audience: Audience, first_day: int, day: int) -> pa.Table:
        """The interactions as the lake has them, by time, then by member."""
        if not self._parts:
            return INTERACTION_SCHEMA.empty_table()
        joined = [np.concatenate(part) for part in zip(*self._parts, strict=True)]
        order = np.lexsort((joined[0], joined[2]))
        members, titles, seconds, devices, durations, values, actions = (column[order] for column in joined)
        country = audience.country[members]
        locale = np.where(audience.other_locale[members], 0, country).astype(np.int8)
        return pa.table(
            [
                pa.array(members + 1),
                pa.array(titles + 1),
                epoch_times(first_day, day, seconds),
                _names(columns.ACTIONS, actions),
                pa.array(durations, from_pandas=True),
                pa.array(values, from_pandas=True),
                _names(DEVICES, devices),
                _names(COUNTRIES, country),
                _names(LOCALES, locale),
            ],
            schema=INTERACTION_SCHEMA,
        )


class ImpressionLog:
    """Titles as they are shown; `table` puts them into the order of time."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints, Ints, NDArray[np.int8]]] = []

    def add(self, members: Ints, seconds: Ints, slate: Slate, looked: Flags) -> None:
        """Write down what the slates show to the members who looked at them."""
        shown = slate.shown & looked[:, None]
        row, positions = np.nonzero(shown)[0], slate.positions[shown]
        self._parts.append((members[row], slate.titles[shown], seconds[row], positions, slate.surfaces[shown]))

    def table(self, first_day: int, day: int) -> pa.Table:
        """The impressions as the lake has them, by time, then by member and position."""
        if not self._parts:
            return IMPRESSION_SCHEMA.empty_table()
        joined = [np.concatenate(part) for part in zip(*self._parts, strict=True)]
        order = np.lexsort((joined[3], joined[0], joined[2]))
        members, titles, seconds, positions, surfaces = (column[order] for column in joined)
        times = epoch_times(first_day, day, seconds)
        return pa.table(
            [members + 1, titles + 1, times, positions, _names(SURFACES, surfaces)], schema=IMPRESSION_SCHEMA
        )
