"""Two models are asked the same questions, whose answers neither can have learned."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embeddings import model_comparison
from embeddings.encode.config import EncodeConfig
from stores.files.filesystem import Storage
from stores.releases.release import Plan, Release
from stores.schema import TITLE_ID, catalogue_schema, history_schema

SINCE = datetime(2026, 7, 1, tzinfo=UTC)
MEMBERS, TITLES, SHARDS = 60, 40, 3
IDS = pa.array(range(TITLES))
CONFIG = EncodeConfig(encoder="fake_models:Fake")


class Fake:
    """Scores highest the title whose number follows the last one of the history, or, if blind, precedes it."""

    dim = TITLES

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.step = 1 if model_id == "seer" else TITLES - 20

    @classmethod
    def load(cls, path: str) -> "Fake":
        return cls(Path(path).name)

    def encode_members(self, histories: pa.Table) -> np.ndarray:
        last = np.array([titles[-1] if titles else 0 for titles in histories[TITLE_ID].to_pylist()])
        return np.stack([np.roll(np.arange(TITLES, 0, -1.0), at + self.step) for at in last]).astype(np.float32)

    def encode_titles(self, titles: pa.Table) -> np.ndarray:
        return np.eye(TITLES, dtype=np.float32)


def history(member: int) -> dict[str, Any]:
    """Titles one after the other, three before SINCE (the last of them again after it), one new title after."""
    first = member % (TITLES - 5)
    titles = [first, first + 1, first + 2, first + 2, first + 3]
    times = [SINCE + timedelta(hours=hours, minutes=member) for hours in (-90, -60, -30, 1, 2)]
    numbers = {"actions": [1] * 5, "duration_s": [0.0] * 5, "value": [0.0] * 5, "events": [1] * 5}
    texts: dict[str, Any] = {name: [None] * 5 for name in ("device", "country", "locale")}
    lists = {"title_id": titles, "first_time": times, "last_time": times, **numbers, **texts}
    return {"member_id": member, **lists, "event_time": times[-1], "history_hash": str(member)}


def night(workspace: Path, name: str, model: str, before: str | None) -> Release:
    release = Release(str(workspace), name)
    facts = {"release_id": name, "plan_hash": "0", "lake": "", "model_id": model, "space_id": "1", "shards": SHARDS}
    moments = {"as_of": SINCE, "created_at": SINCE, "config": {}}
    plan = Plan(**facts, **moments, reference_release=before, previous_release=before)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    for shard in range(SHARDS):
        rows = [history(member) for member in range(MEMBERS) if member % SHARDS == shard]
        table = pa.Table.from_pylist(rows, schema=history_schema(pa.int64(), pa.int64()))
        release.write_table(f"histories/part-{shard:05d}.parquet", table)
    schema = catalogue_schema(pa.int64())
    columns = {field.name: pa.nulls(TITLES, field.type) for field in schema} | {TITLE_ID: IDS}
    release.write_table("work/catalogue.parquet", pa.table(columns, schema=schema))
    return release


@pytest.fixture
def two_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A maker of a night after a live one, each with its model; `until` is what both models say."""
    fake = ModuleType("fake_models")
    fake.Fake = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_models", fake)

    def make(model: str, live: str, until: datetime | None = SINCE) -> Release:
        for name in (model, live):
            facts = {model_comparison.TRAINED_UNTIL: until.isoformat()} if until else {}
            Storage(str(tmp_path)).write(f"models/{name}/metrics.json", json.dumps(facts).encode())
        first = night(tmp_path, "20260701T000000Z-0000", live, None)
        first.seal([], [], {})
        return night(tmp_path, "20260702T000000Z-0001", model, first.release_id)

    return make


def test_a_question_is_the_first_title_that_is_new_after_the_moment() -> None:
    table = pa.Table.from_pylist([history(m) for m in range(3)], schema=history_schema(pa.int64(), pa.int64()))
    assert model_comparison.first_new_title(table, IDS, SINCE).tolist() == [4, 4, 4]
    assert model_comparison.first_new_title(table, IDS, SINCE - timedelta(days=9)).tolist() == [0, 0, 0]
    assert model_comparison.first_new_title(table, IDS, SINCE + timedelta(hours=4)).tolist() == [-1, -1, -1]
    assert model_comparison.first_new_title(table, pa.array([99]), SINCE).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(("model", "live", "who"), [("seer", "blind", "model"), ("blind", "seer", "other")])
def test_the_better_model_is_found_by_pairs(two_nights: Any, model: str, live: str, who: str) -> None:
    metrics = model_comparison.run(CONFIG, two_nights(model, live)).metrics
    assert metrics["questions"] == MEMBERS
    found = metrics["against"]["current"]
    gains = found.pop("gains")
    assert found == {"both": 0, "model": 0, "other": 0, "neither": 0, who: MEMBERS}
    assert gains[who] == gains[f"{who}_squared"] == 1  # its answers come first
    assert max(gains["product"], gains["model"] + gains["other"] - 1) < 0.4
    assert set(metrics["against"]) == {"current", "popular_7_days"}
    slices = metrics["slices"]["new_members"]["current"]
    assert sum(count for name, count in slices.items() if name != "gains") == MEMBERS


def test_questions_are_bounded(two_nights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_comparison, "MAX_QUERIES", 9)
    assert model_comparison.run(CONFIG, two_nights("seer", "blind")).metrics["questions"] == 9


@pytest.mark.parametrize(
    ("model", "live", "until", "why"),
    [
        ("seer", "seer", SINCE, "same model"),
        ("seer", "blind", None, "does not say"),
        ("seer", "blind", SINCE + timedelta(days=3), "no member met a new title"),
    ],
)
def test_where_nothing_can_be_asked_it_says_why(two_nights: Any, model: str, live: str, until: Any, why: str) -> None:
    metrics = model_comparison.run(CONFIG, two_nights(model, live, until)).metrics
    assert metrics["questions"] == 0
    assert why in metrics["why"]


def test_a_first_night_has_nobody_to_be_compared_with(tmp_path: Path) -> None:
    first = night(tmp_path, "20260701T000000Z-0000", "seer", None)
    assert "no live model" in model_comparison.run(CONFIG, first).metrics["why"]


@pytest.mark.parametrize("text", ["", "{", "null", "{}", '{"trained_until": null}', '{"trained_until": "soon"}'])
def test_a_damaged_or_silent_measurement_does_not_say_until_when_a_model_was_trained(tmp_path: Path, text: str) -> None:
    Storage(str(tmp_path)).write("models/seer/metrics.json", text.encode())
    release = Release(str(tmp_path), "20260701T000000Z-0001")
    assert model_comparison.trained_until(release, "seer") is None
    assert model_comparison.trained_until(release, "nobody") is None


# --- nothing that came later, and nothing that depends on the live model


class Reader(Fake):
    """Ranks by the plays that the catalogue tells, and writes down what that was."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012

    def encode_titles(self, titles: pa.Table) -> np.ndarray:
        Reader.seen.append(titles.select(["plays", "age_days"]).to_pydict())
        return super().encode_titles(titles)


class Fails(Fake):
    """The live model fails on some members, on all of them, or cannot be loaded."""

    members = range(3)

    def encode_members(self, histories: pa.Table) -> np.ndarray:
        if self.model_id == "blind" and set(histories["member_id"].to_pylist()) & set(self.members):
            raise RuntimeError("not these")
        return super().encode_members(histories)


class FailsOnAll(Fails):
    members = range(MEMBERS)


class Gone(Fake):
    @classmethod
    def load(cls, path: str) -> "Gone":
        if Path(path).name == "blind":
            raise OSError("no weights")
        return cls(Path(path).name)


def asked(kind: type, two_nights: Any) -> dict[str, Any]:
    setattr(sys.modules["fake_models"], kind.__name__, kind)
    config = EncodeConfig(encoder=f"fake_models:{kind.__name__}")
    found: dict[str, Any] = model_comparison.run(config, two_nights("seer", "blind")).metrics
    return found


def test_titles_have_the_plays_and_ages_of_the_moment_after_which_questions_begin(two_nights: Any) -> None:
    Reader.seen.clear()
    assert asked(Reader, two_nights)["questions"] == MEMBERS
    starts = [member % (TITLES - 5) for member in range(MEMBERS)]
    by_then = [sum(title in range(first, first + 3) for first in starts) for title in range(TITLES)]
    assert len(Reader.seen) == 2
    for told in Reader.seen:
        assert told["plays"] == by_then
        assert np.isnan(told["age_days"]).all()


def test_a_member_that_a_model_fails_on_is_not_found_by_it(two_nights: Any) -> None:
    metrics = asked(Fails, two_nights)
    assert metrics["questions"] == MEMBERS
    assert metrics["against"]["current"]["model"] == MEMBERS


@pytest.mark.parametrize(("kind", "why"), [(FailsOnAll, "fails on all"), (Gone, "no weights")])
def test_a_live_model_that_cannot_be_asked_costs_the_comparison_and_not_the_night(
    two_nights: Any, kind: type, why: str
) -> None:
    metrics = asked(kind, two_nights)
    assert metrics["questions"] == 0
    assert "live model blind cannot be asked" in metrics["why"]
    assert why in metrics["why"]
