"""The profile of a night's events counts what it says, however the events are cut into blocks."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embeddings.histories.config import HistoriesConfig
from embeddings.histories.events import TEXT_COLUMNS, EventProfile, Events

CONFIG = HistoriesConfig()
NEWEST = datetime(2026, 7, 20, 1, tzinfo=UTC)
PLAY, TRAILER = CONFIG.actions.index("play") + 1, CONFIG.actions.index("trailer") + 1
COUNT = 400


def some(rng: np.random.Generator) -> dict[str, Any]:
    hours = np.append(0, rng.uniform(0, 24 * 20, COUNT - 1))
    return {
        "hours": hours,
        "country": [str(name) if name != "-" else None for name in rng.choice(["DE", "BR", "-"], COUNT)],
        "duration": rng.lognormal(7, 1, COUNT) * (rng.random(COUNT) < 0.9),
        "action": rng.choice([PLAY, TRAILER], COUNT),
    }


def events(rows: dict[str, Any], part: slice) -> Events:
    micros = np.array([round((NEWEST - timedelta(hours=h)).timestamp() * 1e6) for h in rows["hours"][part]], np.int64)
    texts = {name: pa.array(rows["country"][part], pa.string()).dictionary_encode() for name in TEXT_COLUMNS}
    codes, nothing = np.zeros(len(micros), np.int32), np.full(len(micros), np.nan)
    return Events(codes, codes, micros, rows["action"][part].astype(np.int8), rows["duration"][part], nothing, texts)


def profile(rows: dict[str, Any], parts: int) -> dict[str, Any]:
    found = EventProfile(round(NEWEST.timestamp() * 1e6), CONFIG)
    step = COUNT // parts
    for begin in range(0, COUNT, step):
        found.add(events(rows, slice(begin, begin + step)))
    return found.metrics()


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_a_plain_count(seed: int) -> None:
    rows = some(np.random.default_rng(seed))
    found = profile(rows, parts=1)
    days = Counter((NEWEST - timedelta(hours=h)).date().isoformat() for h in rows["hours"])
    assert found["days"] == {day: days[day] for day in list(found["days"])}
    assert next(iter(found["days"])) == "2026-07-20"
    assert found["countries"] == {name: rows["country"].count(name) for name in found["countries"]}
    late = rows["hours"] < 24
    assert found["last_day"]["events"] == late.sum()
    known = [name for name, kept in zip(rows["country"], late, strict=True) if kept and name]
    assert found["last_day"]["countries"] == dict(Counter(known))


def test_medians_are_of_watch_actions_on_the_last_day_to_the_width_of_a_bin() -> None:
    rows = some(np.random.default_rng(2))
    rows["hours"] = rows["hours"] / 10
    found = profile(rows, parts=4)["last_day"]["durations"]
    kept = (rows["hours"] < 24) & (rows["action"] == PLAY) & (rows["duration"] > 0)
    assert list(found) == ["play"]
    assert found["play"]["count"] == kept.sum()
    assert found["play"]["median_s"] == pytest.approx(np.median(rows["duration"][kept]), rel=0.05)


def test_blocks_do_not_matter() -> None:
    rows = some(np.random.default_rng(3))
    assert profile(rows, parts=1) == profile(rows, parts=8)
