"""The feed beside earlier nights': units of durations, countries that fell silent, past days that changed.

Reads the `profile` that the histories stage reports (`embeddings.histories.events`). A figure is the
worst case of its kind, and the examples name it; where nothing can be compared nothing is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from math import log
from statistics import median
from typing import Any

from validation.checks import Expectation, Level, few, shown
from validation.config import InputThresholds
from validation.suites import Suite

FINDINGS = {
    "duration_ratio": "the median duration of an action is {:.4g} times what it was",
    "country_share_ratio": "a country has {:.1%} of its usual share of the last day's events",
    "country_events_ratio": "a country has {:.1%} of the events that it had the night before",
    "lowest_day_ratio": "a past day has {:.1%} of the events that it had the night before",
    "highest_day_ratio": "a past day has {:.4g} times the events that it had the night before",
}
"""The worst case of each figure as a sentence."""

Profile = dict[str, Any]
Case = tuple[float, str]


def suite(tonight: Profile, earlier: Sequence[Profile], thresholds: InputThresholds) -> Suite:
    """What is expected of tonight's profile; `earlier` are the profiles of the nights before, the latest first."""
    known = [profile for profile in earlier if profile]
    if not tonight or not known:
        return {}, []
    ask = _FeedExpectations(thresholds)
    least = thresholds.min_events
    ask("durations are in the unit they were in", "duration_ratio", _durations(tonight, known, least), _farthest)
    ask("no country fell silent", "country_share_ratio", _silent(tonight, known, least), min)
    ask("countries keep their events", "country_events_ratio", _kept(tonight, known[0], "countries", least), min)
    days = _kept(tonight, {"days": _complete(known[0])}, "days", least)
    ask("past days keep their events", "lowest_day_ratio", days, min)
    ask("past days were complete", "highest_day_ratio", days, max, level="warn")
    return ask.figures, ask.expected


class _FeedExpectations:
    """Makes one expectation of many cases: the worst of them is the figure, those outside are the examples."""

    def __init__(self, thresholds: InputThresholds) -> None:
        self.thresholds = thresholds
        self.figures: dict[str, float] = {}
        self.expected: list[Expectation] = []

    def __call__(
        self,
        name: str,
        column: str,
        cases: list[Case],
        worst: Callable[[Iterable[float]], float],
        level: Level = "hold",
    ) -> None:
        if not cases:
            return
        self.figures[column] = worst([ratio for ratio, _ in cases])
        low, high = (getattr(self.thresholds, f"{end}_{column}", None) for end in ("min", "max"))
        named = [text for ratio, text in cases if (low and ratio < low) or (high and ratio > high)]
        field = f"{'min' if low is not None else 'max'}_{column}"
        reason = self.thresholds.why(field)
        limits: dict[str, Any] = {"minimum": low, "maximum": high, "level": level}
        facts: dict[str, Any] = {"reason": reason, "examples": few(named), "finding": FINDINGS[column]}
        self.expected.append(Expectation(name=name, column=column, **facts, **limits))


def _farthest(ratios: Iterable[float]) -> float:
    return max(ratios, key=lambda ratio: abs(log(max(ratio, 1e-12))))


def _durations(tonight: Profile, earlier: Sequence[Profile], least: int) -> list[Case]:
    """Each watch action's median duration on the last day beside the median of earlier nights' medians."""
    cases = []
    for action, now in tonight["last_day"]["durations"].items():
        past = [profile["last_day"]["durations"].get(action) for profile in earlier]
        medians = [found["median_s"] for found in past if found and found["count"] >= least]
        if medians and now["count"] >= least:
            before = median(medians)
            text = f"{action}: median {shown(now['median_s'])} s, before {shown(before)} s"
            cases.append((now["median_s"] / before, text))
    return cases


def _silent(tonight: Profile, earlier: Sequence[Profile], least: int) -> list[Case]:
    """Each country's share of the last day beside its median share on earlier nights' last days."""
    days = [profile["last_day"] for profile in earlier if profile["last_day"]["events"]]
    now = tonight["last_day"]
    cases = []
    for country in {name for day in days for name in day["countries"]}:
        events = median([day["countries"].get(country, 0) for day in days])
        if events >= least and now["events"]:
            usual = median([day["countries"].get(country, 0) / day["events"] for day in days])
            count = now["countries"].get(country, 0)
            cases.append((count / now["events"] / usual, f"{country}: {count:,} events, usually {events:,.0f}"))
    return sorted(cases)


def _kept(tonight: Profile, before: Profile, what: str, least: int) -> list[Case]:
    """Counts of tonight beside the same counts of the night before, those of at least `least` then."""
    return [
        (now / then, f"{name}: {now:,} events, before {then:,}")
        for name, then in before[what].items()
        if then >= least and (now := _count(tonight, what, name)) is not None
    ]


def _count(profile: Profile, what: str, name: str) -> int | None:
    """A count; None for a day that is too long ago to be reported tonight."""
    if what == "days" and (not profile["days"] or name < min(profile["days"])):
        return None
    return int(profile[what].get(name, 0))


def _complete(profile: Profile) -> dict[str, int]:
    """The days of a profile but its newest, which was not over yet."""
    newest = max(profile["days"], default="")
    return {day: count for day, count in profile["days"].items() if day != newest}
