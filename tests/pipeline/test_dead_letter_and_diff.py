"""The verbs that look at what was refused and at what changed."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from stores import dead_letter
from stores.dead_letter import letter, letters_table, many
from stores.release import Release

NIGHT = "20260721T020000Z-3f9a"


@pytest.fixture
def stopped(tmp_path: Path) -> str:
    """A workspace whose only night stopped at its dead letter."""
    rows = [letter("interactions/a.parquet", 4, "title_id", "99", "unknown title")]
    rows.append(many("interactions/b.parquet", 1200, "", "no footer", "unreadable file"))
    dead_letter.write(Release(str(tmp_path), NIGHT), "interactions", letters_table(rows))
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
