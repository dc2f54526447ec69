"""Nights in which much happens and nothing is wrong: none may be held, and none may warn.

Planted, not trained: titles launch and leave, members join and leave, tastes turn with the week and wander, plays
follow a few hits, events have weekends, a premiere and a holiday, late events arrive, and models are trained anew.
"""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from validation.checks import GateVerdict

PREMIERE, LICENCE_END, HOLIDAY, RETRAINS = 6, 13, 9, (4, 11, 18)
UNMEASURED = "the model's quality was measured"
"""The planted models have no metrics of their own, which rightly warns."""


class Season:
    """A service whose catalogue, members and tastes change from night to night; vectors stay in one space."""

    def __init__(self, width: int) -> None:
        self.rng = np.random.default_rng(11)
        self.scale = np.linspace(2.0, 0.5, width)
        self.titles = {title: self._new() for title in range(70)}
        self.members = {member: self._new() for member in range(240)}
        self.appeal = {title: float(self.rng.pareto(1.5)) for title in self.titles}
        self.plays = dict.fromkeys(self.titles, 0)
        self.kids = self.rng.normal(size=width)
        self.events, self.number = 0, -1
        for _ in range(40):
            self._watched(weekend=False)

    def _new(self) -> np.ndarray:
        return np.asarray(self.rng.normal(size=len(self.scale)) * self.scale + 0.3)

    def edit(self, content: dict[str, Any]) -> None:
        """Make a night's content the next one of this season."""
        self.number += 1
        self._catalogue()
        self._members()
        night = content["reports"]["histories"]
        created = datetime.fromisoformat(night["newest_event"])
        today = self._watched(weekend=created.weekday() in (4, 5, 6))
        noise = 0.25 if self.number in RETRAINS else 0.03
        for side in (self.titles, self.members):
            for key, vector in side.items():
                side[key] = vector + self.rng.normal(scale=noise, size=vector.shape)
        content["model_id"] = f"m{sum(self.number >= at for at in RETRAINS)}"
        self._write(content, 0.2 * np.sin(2 * np.pi * self.number / 7))
        late = int(self.rng.poisson(15))
        night |= {"events_accepted": self.events + late, "events_read": self.events + late + 12}
        night |= {"members": len(self.members), "titles": len(self.titles)}
        self._feel(night["profile"], today, created)

    def _catalogue(self) -> None:
        launched = 8 if self.number == PREMIERE else 2
        for _ in range(launched):
            title = max(self.titles) + 1
            self.titles[title], self.plays[title] = self._new(), 0
            self.appeal[title] = float(self.rng.pareto(1.5)) + (20.0 if self.number == PREMIERE else 0.0)
        gone = 9 if self.number == LICENCE_END else self.number % 3 // 2
        for title in sorted(self.titles)[:gone]:
            del self.titles[title], self.appeal[title], self.plays[title]

    def _members(self) -> None:
        for member in self.rng.choice(sorted(self.members), 2, replace=False).tolist():
            del self.members[member]
        for _ in range(5):
            self.members[max(self.members) + 1] = self._new()

    def _watched(self, weekend: bool) -> int:
        """Events of the day: more at weekends, three times as many at the premiere; hits fade."""
        size = 1_000 * (1.4 if weekend else 1.0) * (3.0 if self.number == PREMIERE else 1.0)
        count = int(self.rng.poisson(size))
        names, weights = list(self.appeal), np.array(list(self.appeal.values())) + 0.05
        for title, plays in zip(names, self.rng.multinomial(count, weights / weights.sum()).tolist(), strict=True):
            self.plays[title] += plays
            self.appeal[title] *= 0.97 if self.number >= 0 else 1.0
        self.events += count
        return count

    def _write(self, content: dict[str, Any], weekly: float) -> None:
        """Titles that are played lie along the members' mean, so that scores follow plays as in a trained space."""
        members, titles = np.array(list(self.members)), np.array(list(self.titles))
        content["snapshot_members"] = content["member_ids"] = members
        content["snapshot_titles"] = content["title_ids"] = titles
        content["names"] = [f"Title {title}" for title in titles]
        content["plays"] = np.array([self.plays[title] for title in self.titles])
        hits = np.log1p(content["plays"])[:, None] / 4
        content["members"] = np.array(list(self.members.values())) + weekly * self.kids
        content["titles"] = np.array(list(self.titles.values())) + hits * np.sign(self.scale)
        for index in ("candidates", "similar"):
            content["reports"]["index"][index]["titles"] = len(titles)

    def _feel(self, profile: dict[str, Any], today: int, created: datetime) -> None:
        """The last day in countries and durations; a past day of the profile gains what came late."""
        shares = {"US": 0.6, "BR": 0.25 * (0.4 if self.number == HOLIDAY else 1.0), "NZ": 0.12}
        countries = {name: int(self.rng.poisson(share * today)) for name, share in shares.items()}
        durations = {"play": {"median_s": round(2_400 * self.rng.uniform(0.8, 1.25), 1), "count": today // 2}}
        profile["last_day"] = {"events": sum(countries.values()), "countries": countries, "durations": durations}
        profile["countries"] = {name: int(share * self.events) for name, share in shares.items() if name != "BR"}
        yesterday = (created - timedelta(days=1)).date().isoformat()
        if yesterday in profile["days"]:
            profile["days"][yesterday] = int(profile["days"][yesterday] * 1.04)


@pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_healthy_nights_raise_no_alarm(nights, count):
    season = Season(width=8)
    for _ in range(count):
        release = nights.seal(nights.stage(season.edit))
        assert (season.number, release.manifest.status, release.manifest.reasons) == (season.number, "ready", [])
        for name in ("gate_input", "gate_vectors", "gate_index"):
            warnings = GateVerdict.of(name, release.stage_report(name).metrics).warnings
            assert {str(check) for check in warnings if check.expectation != UNMEASURED} == set(), season.number
    before, last = (
        nights.releases[at].titles().to_table(columns=["title_id"])["title_id"].to_pylist() for at in (0, -1)
    )
    assert set(before) - set(last)
    assert set(last) - set(before)
