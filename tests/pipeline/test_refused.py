"""`plan`, `train` and `nightly` refuse the same input with the same words, before anything long begins."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.foundation import trainer
from pipeline.cli import main

NOW = datetime.now(UTC)
VERBS = ["plan", "train", "nightly"]
Spoil = Callable[[pa.Table], pa.Table]


def events(rows: int = 60) -> pa.Table:
    times = [NOW - timedelta(hours=at + 1) for at in range(rows)]
    return pa.table(
        {
            "member_id": pa.array([at % 10 for at in range(rows)]),
            "title_id": pa.array([at % 9 for at in range(rows)]),
            "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "action": ["play"] * rows,
        }
    )


def column(name: str, values: Any) -> Spoil:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values(table))


def write(place: Path, *parts: pa.Table) -> list[str]:
    for folder in ("interactions", "titles"):
        (place / "lake" / folder).mkdir(parents=True)
    for number, part in enumerate(parts):
        pq.write_table(part, place / "lake" / "interactions" / f"part-{number}.parquet")
    pq.write_table(pa.table({"title_id": list(range(9))}), place / "lake" / "titles" / "part-0.parquet")
    return ["--lake", str(place / "lake"), "--workspace", str(place / "ws"), "--json"]


def refuse(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 3) -> dict[str, Any]:
    assert main(words) == code
    return dict(json.loads(capsys.readouterr().out)["error"])


@pytest.fixture(autouse=True)
def _never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that is spent on a training before the refusal would be this failure."""
    monkeypatch.setattr(trainer, "train", lambda *_: pytest.fail("a training began"))


LISTEN = column("action", lambda table: pa.array(["listen"] * len(table)))
MANY_NAMES = column("action", lambda table: pa.array([f"own {at // 4:02d}" for at in range(len(table))]))
TIMES = column("event_time", lambda table: pa.array([1_700_000_000 + at for at in range(len(table))]))
STRANGE = column("title_id", lambda table: pa.array([1000 + at for at in range(len(table))]))
WHOLE = [
    (LISTEN, ["'listen' 60", "histories.actions", "histories.watch_actions", "play, trailer"]),
    (MANY_NAMES, ["'own 00' 4", "and 5 others", "histories.actions"]),
    (TIMES, ["event_time is stored as int64", "wanted is timestamp, UTC", "seconds or milliseconds"]),
    (STRANGE, ["same ids", "'1000'", "'0'"]),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("spoil", "says"), WHOLE, ids=["action", "actions", "times", "titles"])
def test_a_whole_column_is_refused_with_its_cure_and_no_higher_budget(
    verb: str, spoil: Spoil, says: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refuse([verb, *write(tmp_path, spoil(events()))], capsys)
    for part in says:
        assert part in error["fix"]
    assert "max_bad_fraction" not in error["fix"]


@pytest.mark.parametrize("verb", VERBS)
def test_one_file_of_many_that_is_wrong_as_a_whole_is_named(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refuse([verb, *write(tmp_path, events(500), TIMES(events(40)))], capsys)
    assert "event_time is stored as int64 in interactions/part-1.parquet" in error["fix"]
    assert "max_bad_fraction" not in error["fix"]


@pytest.mark.parametrize("verb", VERBS)
def test_scattered_rows_may_be_left_out(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil = column("action", lambda table: pa.array([("play", "juggle")[at % 8 == 0] for at in range(len(table))]))
    error = refuse([verb, *write(tmp_path, spoil(events()))], capsys)
    assert "'juggle' 8" in error["fix"]
    assert "raise histories.max_bad_fraction" in error["fix"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_day_that_was_delivered_twice_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refuse([verb, *write(tmp_path, events(), events(20))], capsys)
    assert "duplicate: 20" in error["what"]
    assert "delivered twice" in error["fix"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_lake_without_an_event_up_to_the_moment_is_wrong_usage(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, *write(tmp_path, events()), "--as-of", "2001-01-01"]
    assert "no event up to 2001-01-01" in refuse(words, capsys, 2)["what"]


def test_the_rows_of_a_first_night_that_is_refused_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = write(tmp_path, LISTEN(events()))
    shown = where[2:]
    for _ in range(2):  # also when the same night is tried again
        assert "samespace dead-letter" in refuse(["nightly", *where], capsys)["fix"]
        assert main(["dead-letter", *shown]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert [(one["rows"], one["reason"], one["source"]) for one in facts["groups"]] == [
            (60, "unknown action", "interactions/part-0.parquet")
        ]
    assert main(["releases", *shown]) == 0
    assert json.loads(capsys.readouterr().out)["releases"] == []
    pq.write_table(events(), tmp_path / "lake" / "interactions" / "part-0.parquet")
    assert main(["dead-letter", "--retry", *shown]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"][0]["mended"] == 60


def test_a_plan_changes_nothing_and_counts_what_a_night_would_accept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = write(tmp_path, events())
    assert main(["plan", *where]) == 0
    assert json.loads(capsys.readouterr().out)["work"]["members"] == 10
    assert not (tmp_path / "ws").exists()
