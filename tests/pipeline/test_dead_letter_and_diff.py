"""The verbs that look at what was refused and at what changed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig, run
from pipeline.cli import main
from stores.errors import ContractError
from stores.releases import dead_letter
from stores.releases.dead_letter import rejected_row, rejected_summary, rejected_table
from stores.releases.release import Plan, Release

NIGHT = "20260721T020000Z-3f9a"


@pytest.fixture
def stopped(tmp_path: Path) -> str:
    """A workspace whose only night stopped at its dead letter."""
    rows = [rejected_row("interactions/a.parquet", 4, "title_id", "99", "unknown title")]
    rows.append(rejected_summary("interactions/b.parquet", 1200, "", "no footer", "unreadable file"))
    dead_letter.write_dead_letter(Release(str(tmp_path), NIGHT), "interactions", rejected_table(rows))
    return str(tmp_path)


def test_the_dead_letter_of_a_stopped_night_says_what_where_and_why(
    stopped: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead-letter", "--workspace", stopped]) == 0
    text = capsys.readouterr().out
    parts = (
        NIGHT,
        "1,201 rows",
        "unknown title (title_id), in one file",
        "a.parquet row 4: '99'",
        "1200 rows: no footer",
    )
    for part in parts:
        assert part in text
    assert main(["dead-letter", NIGHT, "--json", "--workspace", stopped]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [group["rows"] for group in facts["groups"]] == [1200, 1]


@pytest.mark.parametrize("words", [["dead-letter"], ["diff", NIGHT, NIGHT]])
def test_a_night_that_is_not_there_is_wrong_usage(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--workspace", str(tmp_path)]) == 2
    assert "night" in capsys.readouterr().err


def test_nothing_refused_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Release(str(tmp_path), NIGHT).storage.write("plan.json", b"{}")
    assert main(["dead-letter", "--workspace", str(tmp_path)]) == 0
    assert "no row was refused" in capsys.readouterr().out


# --- what a mended lake would give

AS_OF = datetime(2026, 7, 21, 2, tzinfo=UTC)
RETRY = ["dead-letter", "--retry", "--as-of", AS_OF.isoformat()]


def write_lake(place: Path, unknown: int, repeats: int = 0) -> None:
    """A hundred events of ten members, `unknown` of them of a title that is not there, and some of them twice."""
    titles = [99 if at < unknown else at % 9 for at in range(100)]
    times = [AS_OF - timedelta(hours=at + 1) for at in range(100)]
    events = pa.table(
        {
            "member_id": [at % 10 for at in range(100)],
            "title_id": titles,
            "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "action": ["play"] * 100,
        }
    )
    events = pa.concat_tables([events, events.slice(100 - repeats)])
    for name, table in (("interactions", events), ("titles", pa.table({"title_id": list(range(9))}))):
        (place / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, place / name / "part-0.parquet")


@pytest.fixture
def refused(tmp_path: Path) -> tuple[Path, list[str]]:
    """A lake with 40 bad and 20 repeated rows, and the workspace of the night that stopped at them."""
    lake, release = tmp_path / "lake", Release(str(tmp_path / "ws"), NIGHT)
    write_lake(lake, unknown=40, repeats=20)
    facts = {"release_id": NIGHT, "plan_hash": "0", "lake": str(lake), "model_id": "m", "space_id": "1", "config": {}}
    times = {"as_of": AS_OF, "created_at": AS_OF}
    plan = Plan(**facts, **times, reference_release=None, previous_release=None, shards=2)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    with pytest.raises(ContractError):
        run(HistoriesConfig(), release)
    return lake, ["--workspace", str(tmp_path / "ws")]


def test_a_retry_says_that_the_night_would_stop_again(
    refused: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RETRY, *refused[1]]) == 3
    text = capsys.readouterr().out
    assert "the next night would stop: interactions: 60 of 120 rows" in text
    assert "part-0.parquet row 0: '99'" in text


def test_a_retry_counts_what_was_mended_and_what_was_not(
    refused: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lake, where = refused
    write_lake(lake, unknown=3)
    before = sorted(path for path in Path(where[1]).rglob("*") if path.is_file())
    assert main([*RETRY, "--json", *where]) == 0
    facts = json.loads(capsys.readouterr().out)
    kinds = {kind["reason"]: kind for kind in facts["kinds"]}
    assert kinds["unknown title (title_id)"] == {
        "reason": "unknown title (title_id)",
        "refused": 40,
        "still_refused": 3,
        "mended": 37,
    }
    assert [group["rows"] for group in facts["groups"]] == [3]
    assert sorted(path for path in Path(where[1]).rglob("*") if path.is_file()) == before
    assert main([*RETRY, *where]) == 0
    assert "would take 37 of these rows in and refuse 3" in capsys.readouterr().out


def test_a_retry_obeys_tonights_configuration(
    refused: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RETRY, *refused[1], "--set", "histories.max_bad_fraction=0.6"]) == 0
    assert "would take 0 of these rows in and refuse 60" in capsys.readouterr().out
