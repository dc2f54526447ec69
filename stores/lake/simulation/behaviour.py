"""What one day of a block of members leaves behind: the logs of interactions and of impressions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stores import schema
from stores.lake.simulation.catalogue import COUNTRIES, Catalogue, Floats, Ints
from stores.lake.simulation.config import DAY_S, SimulationConfig
from stores.lake.simulation.members import DEVICES, LOCALES, Members, Memory
from stores.lake.simulation.slate_policy import SURFACES, Slate, SlatePolicy, first_of_each

Flags = NDArray[np.bool_]

INTERACTION_SCHEMA = pa.schema(
    [
        pa.field(schema.MEMBER_ID, pa.int64()),
        pa.field(schema.TITLE_ID, pa.int64()),
        pa.field(schema.EVENT_TIME, schema.TIMESTAMP_TYPE),
        pa.field(schema.ACTION, pa.string()),
        pa.field(schema.DURATION, pa.float64()),
        pa.field(schema.VALUE, pa.float64()),
        pa.field(schema.DEVICE, pa.string()),
        pa.field(schema.COUNTRY, pa.string()),
        pa.field(schema.LOCALE, pa.string()),
    ]
)
IMPRESSION_SCHEMA = pa.schema(
    [
        pa.field(schema.MEMBER_ID, pa.int64()),
        pa.field(schema.TITLE_ID, pa.int64()),
        pa.field("shown_at", schema.TIMESTAMP_TYPE),
        pa.field("position", pa.int64()),
        pa.field("surface", pa.string()),
    ]
)


def epoch_times(first_day: int, day: int, seconds: Ints) -> pa.Array:
    """Seconds of a simulated day as times in UTC."""
    return pa.array(((first_day + day) * DAY_S + seconds) * 1_000_000).cast(schema.TIMESTAMP_TYPE)


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
            code = np.full(len(rows), schema.ACTIONS.index(action), np.int8)
            self._parts.append((members[rows], titles[rows], seconds[rows], devices[rows], lasted, worth, code))

        return note

    def table(self, audience: Members, first_day: int, day: int) -> pa.Table:
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
                _names(schema.ACTIONS, actions),
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


LONGEST_SESSION = 10
"""Slates; the tail of the geometric length is cut here."""
WEEKEND = 1.35

TASTE, QUALITY, NEXT_PART, SEEN, PLACE = 1.0, 1.2, 4.0, -4.0, -0.3
"""Weights of the utility of a shown title: log taste, quality, being the next part, seen already, each place lower."""
NOTHING = -1.7
"""Utility of choosing nothing from a slate."""
SEARCHES = 0.1
"""How often a member types what to watch and needs no slate."""
LISTS, TRAILERS, JUDGEMENTS = 0.06, 0.12, 0.12
"""How often a chosen title is put on the list instead, its trailer comes first, and a play gets a thumb."""


@dataclass(frozen=True)
class Sessions:
    """The sessions of one day that are still running, one entry per session."""

    member: Ints
    tastes: NDArray[np.float32]
    time: Ints
    """Seconds since the day began."""
    device: NDArray[np.int8]
    left: Ints
    """Slates still to come."""

    def keep(self, rows: NDArray[np.bool_]) -> "Sessions":
        """Only the sessions where `rows` is true."""
        return Sessions(self.member[rows], self.tastes[rows], self.time[rows], self.device[rows], self.left[rows])


class Day:
    """One day of a block of members; fills the two logs and the memory."""

    def __init__(self, config: SimulationConfig, catalogue: Catalogue, audience: Members, memory: Memory) -> None:
        self.config, self.catalogue, self.audience, self.memory = config, catalogue, audience, memory

    def play(
        self, rng: np.random.Generator, policy: SlatePolicy, day: int, members: Ints
    ) -> tuple[EventLog, ImpressionLog]:
        """Let some of `members` have a session on `day` (counted from the first), and write down what happens."""
        events, impressions = EventLog(), ImpressionLog()
        sessions = self._open(rng, day, members)
        while len(sessions.member):
            slate = self._slate(rng, policy, sessions)
            chosen, searched = self._choose(rng, policy, sessions, slate)
            impressions.add(sessions.member, sessions.time, slate, ~searched)
            watched_s = self._watch(rng, sessions, chosen, searched, events)
            pause = 5 + rng.exponential(60, len(watched_s)).astype(np.int64)
            sessions = replace(sessions, time=sessions.time + watched_s + pause, left=sessions.left - 1)
            sessions = sessions.keep((sessions.left > 0) & (sessions.time < DAY_S))
        return events, impressions

    def _open(self, rng: np.random.Generator, day: int, members: Ints) -> Sessions:
        people = self.audience
        present = (people.joined_day[members] <= day) & (day < people.left_day[members])
        weekend = WEEKEND if (self.config.first_day + day + 3) % 7 >= 5 else 1.0
        chance = 1 - np.exp(-people.session_rate[members] * weekend)
        members = members[present & (rng.random(len(members)) < chance)]
        count = len(members)
        hour = (people.hour[members] + rng.normal(0, 1.5, count)) % 24
        usual = rng.random(count) < 0.8
        device = np.where(usual, people.device[members], rng.integers(len(DEVICES), size=count)).astype(np.int8)
        length = np.minimum(rng.geometric(1 / self.config.slates_per_session, count), LONGEST_SESSION)
        tastes = people.tastes(members, day / self.config.days)
        return Sessions(members, tastes, (hour * 3600).astype(np.int64), device, length)

    def _slate(self, rng: np.random.Generator, policy: SlatePolicy, sessions: Sessions) -> Slate:
        slate = policy.propose(rng, sessions.tastes, self.memory.last[sessions.member], self.config.slate_size)
        allowed = policy.allowed(slate.titles, *self._limits(sessions))
        return replace(slate, shown=allowed & first_of_each(slate.titles))

    def _limits(self, sessions: Sessions) -> tuple[NDArray[np.int8], Ints]:
        return self.audience.country[sessions.member], self.audience.maturity[sessions.member]

    def _choose(
        self, rng: np.random.Generator, policy: SlatePolicy, sessions: Sessions, slate: Slate
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """The title that each session settles on (−1 for none), and whether it was searched for."""
        following = policy.next_parts(self.memory.last[sessions.member])
        seen = (slate.titles[:, :, None] == self.memory.recent[sessions.member][:, None, :]).any(axis=2)
        taste = np.take_along_axis(sessions.tastes, self.catalogue.cluster[slate.titles], 1)
        utility = TASTE * np.log(taste) + QUALITY * self.catalogue.quality[slate.titles] + PLACE * slate.positions
        utility += NEXT_PART * (slate.titles == following[:, None]) + SEEN * seen + rng.gumbel(size=seen.shape)
        utility = np.where(slate.shown, utility, -np.inf)
        best = utility.argmax(axis=1)[:, None]
        content = np.take_along_axis(utility, best, 1)[:, 0] > NOTHING + rng.gumbel(size=len(best))
        picked = np.where(content, np.take_along_axis(slate.titles, best, 1)[:, 0], -1)
        searched, wanted = self._search(rng, policy, sessions, following)
        return np.where(searched, wanted, picked), searched

    def _search(
        self, rng: np.random.Generator, policy: SlatePolicy, sessions: Sessions, following: Ints
    ) -> tuple[NDArray[np.bool_], Ints]:
        """Who searches, and for what: the next part, or a title to one's taste."""
        wanted = policy.liked(rng, sessions.tastes, 1)[:, 0]
        wanted = np.where((following >= 0) & (rng.random(len(wanted)) < 0.5), following, wanted)
        fits = policy.allowed(wanted[:, None], *self._limits(sessions))[:, 0]
        fresh = ~(self.memory.recent[sessions.member] == wanted[:, None]).any(axis=1)
        return fits & fresh & (rng.random(len(wanted)) < SEARCHES), wanted

    def _watch(
        self, rng: np.random.Generator, sessions: Sessions, chosen: Ints, searched: NDArray[np.bool_], events: EventLog
    ) -> Ints:
        """Note what happens with the chosen titles; the seconds that it takes, for every session."""
        spent = np.zeros(len(chosen), np.int64)
        rows = np.flatnonzero(chosen >= 0)
        members, titles, device, now = sessions.member[rows], chosen[rows], sessions.device[rows], sessions.time[rows]
        taste = sessions.tastes[rows, self.catalogue.cluster[titles]] / sessions.tastes[rows].max(axis=1)
        pleasure = 0.6 * taste + 0.4 * self.catalogue.quality[titles]
        note = events.noter(members, titles, device)

        note("search", now, searched[rows])
        now = now + 8 * searched[rows]
        listed = ~searched[rows] & (rng.random(len(rows)) < LISTS)
        note("add_to_list", now, listed)
        teased = ~listed & (rng.random(len(rows)) < TRAILERS)
        teaser_s = np.round(rng.uniform(25, 150, len(rows)))
        note("trailer", now, teased, duration=teaser_s)
        now = now + np.where(teased, teaser_s + 3, 2).astype(np.int64)
        played = ~listed & (~teased | (rng.random(len(rows)) < 0.3 + 0.6 * pleasure)) & (now < DAY_S)
        completion, played_s = self._completion(rng, titles, pleasure)
        note("play", now, played, duration=played_s, value=completion)
        self.memory.remember(members[played], titles[played])
        now = now + np.where(played, played_s, 0).astype(np.int64)
        judged = played & (rng.random(len(rows)) < JUDGEMENTS)
        verdict = pleasure + rng.normal(0, 0.15, len(rows)) > 0.5
        note("thumb_up", now + 4, judged & verdict)
        note("thumb_down", now + 4, judged & ~verdict)
        spent[rows] = now + 5 - sessions.time[rows]
        return spent

    def _completion(self, rng: np.random.Generator, titles: Ints, pleasure: Floats) -> tuple[Floats, Floats]:
        """The share of a title that is watched, more where it pleases, and the seconds of that."""
        count = len(titles)
        share = rng.beta(1 + 5 * pleasure, 1.2, count)
        abandoned = rng.random(count) < 0.25 * (1 - pleasure)
        share = np.where(abandoned, 0.12 * share, share)
        seconds = np.maximum(np.round(share * self.catalogue.runtime_s[titles]), 1.0)
        return np.round(seconds / self.catalogue.runtime_s[titles], 4), seconds
