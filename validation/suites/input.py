"""The night's input: refused rows, and volumes and freshness beside the last nights'."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from stores.settings import Settings
from validation.checks import Expectation, Level, few
from validation.config import InputThresholds
from validation.suites import Suite

_COUNTED = {"events_accepted": "accepted events", "members": "members", "titles": "titles"}
_REFUSED = {"bad_fraction": "refused", "titles_bad_fraction": "titles_refused"}
_AGE = "the newest event is {:,.4g} days old"
_COUNT = {"members": "members", "titles": "titles", "events": "events_accepted"}


class Night(Settings):
    """What one night read, by the metrics of its histories stage, and as of when."""

    as_of: datetime
    metrics: dict[str, Any]

    def number(self, name: str) -> float | None:
        """A count of the night; None where it was not reported."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    @property
    def profile(self) -> dict[str, Any]:
        """What its events look like as a whole; empty where it was not reported."""
        found: dict[str, Any] = self.metrics.get("profile") or {}
        return found

    @property
    def newest(self) -> datetime | None:
        """The time of the newest accepted event."""
        value = self.metrics.get("newest_event")
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def suite(tonight: Night, earlier: Sequence[Night], thresholds: InputThresholds) -> Suite:
    """What is expected of tonight's input; `earlier` are the live nights before it, the latest first."""
    figures: dict[str, Any] = {name: tonight.metrics.get(name) for name in (*_COUNTED, *_REFUSED)}
    figures["unreadable_files"] = len(tonight.metrics.get("unreadable_files") or [])
    figures["event_age_days"] = _age_days(tonight)
    expected = _alone(tonight, thresholds)
    if earlier:
        figures |= _ratios(tonight, earlier[0])
        expected += _beside_previous(tonight, earlier[0], thresholds)
        figures["days_of_new_events"] = _new_days(tonight, earlier[0])
    growth = _growth_ratio([tonight, *earlier], thresholds.growth_nights)
    if growth is not None:
        figures["growth_ratio"] = growth
        expected.append(_growth(thresholds))
    return figures, expected


def _alone(tonight: Night, thresholds: InputThresholds) -> list[Expectation]:
    empty, unread = "an empty input publishes nothing", tonight.metrics.get("unreadable_files") or []
    age, counted = "event_age_days", "the histories stage stops the night above its budget"
    return [
        *(
            Expectation(name=f"there are {what}", column=what, minimum=1, reason=empty, finding=f"{named}: {{:,.0f}}")
            for what, named in _COUNTED.items()
        ),
        *(Expectation(name=f"{what} is known", column=what, reason=counted) for what in _REFUSED),
        *(
            _at_most(
                "few rows are refused", fraction, thresholds, "warn_bad_fraction", f"{{:.2%}} of the {rows} are refused"
            ).with_examples(_worst(tonight, by))
            for (fraction, by), rows in zip(_REFUSED.items(), ("events", "titles"), strict=True)
        ),
        Expectation(
            name="every file can be read",
            column="unreadable_files",
            maximum=0,
            level="warn",
            finding="files of the lake that cannot be read: {:,.0f}",
            reason="their rows are missing tonight",
        ).with_examples(unread),
        Expectation(
            name="no event is later than the night",
            column=age,
            minimum=0,
            reason="such rows must be refused",
            finding=_AGE,
        ),
        _at_most("the newest event is fresh", age, thresholds, "max_event_age_days", _AGE),
    ]


def _worst(tonight: Night, by: str) -> tuple[str, ...]:
    """The most frequent reasons of refusal with their counts."""
    refused: dict[str, int] = tonight.metrics.get(by) or {}
    return few([f"{reason}: {count:,}" for reason, count in sorted(refused.items(), key=lambda item: -item[1])])


def _beside_previous(tonight: Night, before: Night, thresholds: InputThresholds) -> list[Expectation]:
    def ratio(what: str) -> Expectation:
        then, now = before.number(_COUNT[what]), tonight.number(_COUNT[what])
        few_lost = then is not None and now is not None and then - now < thresholds.min_lost
        return Expectation(
            name=f"{what} are as many as before",
            column=f"{what}_ratio",
            minimum=getattr(thresholds, f"min_{what}_ratio"),
            level="warn" if few_lost else "hold",
            reason=thresholds.why(f"min_{what}_ratio"),
            finding=f"{what} are {{:.1%}} of the previous night's",
            examples=(f"{what} before: {before.metrics.get(_COUNT[what])}, now: {tonight.metrics.get(_COUNT[what])}",),
        )

    expected = [ratio(what) for what in _COUNT]
    if tonight.as_of - before.as_of >= timedelta(days=1):
        expected.append(_moves_on(before, thresholds))
    return expected


def _moves_on(before: Night, thresholds: InputThresholds) -> Expectation:
    """A feed that was live and stands still is yesterday's file again; an archive never moves, which only warns."""
    age = _age_days(before)
    live = age is not None and age <= thresholds.max_event_age_days
    level: Level = "hold" if live else "warn"
    return Expectation(
        name="there are new events since the previous night",
        column="days_of_new_events",
        minimum=1e-9,
        level=level,
        reason="a later night with the same newest event was given yesterday's file again",
        finding="the newest event is {:.4g} days later than the previous night's",
        examples=(f"newest event before: {before.newest}",),
    )


def _growth(thresholds: InputThresholds) -> Expectation:
    return Expectation(
        name="a night adds as many events as nights do",
        column="growth_ratio",
        minimum=thresholds.min_growth_ratio,
        maximum=thresholds.max_growth_ratio,
        level="warn",
        reason=f"{thresholds.why('min_growth_ratio')}; {thresholds.why('max_growth_ratio')}",
        finding="new events per day are {:.4g} times the median of earlier nights",
    )


def _at_most(name: str, column: str, thresholds: InputThresholds, field: str, finding: str) -> Expectation:
    maximum, reason = getattr(thresholds, field), thresholds.why(field)
    return Expectation(name=name, column=column, maximum=maximum, level="warn", reason=reason, finding=finding)


def _age_days(night: Night) -> float | None:
    return (night.as_of - night.newest) / timedelta(days=1) if night.newest else None


def _new_days(tonight: Night, before: Night) -> float | None:
    if tonight.newest is None or before.newest is None:
        return None
    return (tonight.newest - before.newest) / timedelta(days=1)


def _ratios(tonight: Night, before: Night) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for what, metric in _COUNT.items():
        now, then = tonight.number(metric), before.number(metric)
        found[f"{what}_ratio"] = now / then if now is not None and then else None
    return found


def _growth_ratio(nights: Sequence[Night], least: int) -> float | None:
    """Tonight's new events per day beside the median of earlier nights'; None with fewer than `least` of them."""
    rates: list[float] = []
    for now, before in pairwise(nights):
        days = (now.as_of - before.as_of) / timedelta(days=1)
        count, earlier = now.number("events_accepted"), before.number("events_accepted")
        if days >= 0.5 and count is not None and earlier is not None:
            rates.append((count - earlier) / days)
    if len(rates) <= least or median(rates[1:]) <= 0:
        return None
    return rates[0] / median(rates[1:])
