"""The dead letter counts every refused row once, listed or not."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stores.releases import dead_letter
from stores.releases.dead_letter import count_rows_by_reason, rejected_row, rejected_summary, rejected_table
from stores.releases.release import Release
from stores.schema import dead_letter_schema

REASONS = st.sampled_from(["duplicate", "wrong type", "unknown title"])


@given(st.lists(REASONS), st.lists(st.tuples(st.integers(1, 10**9), REASONS)))
def test_every_row_is_counted_once(single: list[str], lots: list[tuple[int, str]]) -> None:
    letters = [rejected_row("f.parquet", row, "c", "1200 rows", reason) for row, reason in enumerate(single)]
    letters += [rejected_summary("f.parquet", rows, "", "not listed", reason) for rows, reason in lots]
    expected = Counter(single)
    for rows, reason in lots:
        expected[reason] += rows
    assert count_rows_by_reason(rejected_table(letters)) == expected


def test_a_letter_of_another_writer_without_a_number_counts_as_one() -> None:
    assert count_rows_by_reason(rejected_table([rejected_row("f", -1, "", "broken", "x")])) == {"x": 1}


def test_summary_is_over_all_files_of_a_release(tmp_path: Path) -> None:
    release = Release(str(tmp_path), "20260721T020000Z-3f9a")
    dead_letter.write_dead_letter(
        release,
        "interactions",
        rejected_table([rejected_row("a", 0, "c", None, "x"), rejected_row("a", 1, "c", "v", "x")]),
    )
    dead_letter.write_dead_letter(release, "titles", rejected_table([rejected_summary("b", 7, "", "no footer", "y")]))
    dead_letter.write_dead_letter(release, "empty", rejected_table([]))
    assert dead_letter.count_by_reason(release) == {"y": 7, "x": 2}
    assert release.storage.files("dead_letter") == ["dead_letter/interactions.parquet", "dead_letter/titles.parquet"]
    assert release.storage.read_table("dead_letter/titles.parquet").schema == dead_letter_schema()


def test_a_release_without_refused_rows_has_no_summary(tmp_path: Path) -> None:
    assert dead_letter.count_by_reason(Release(str(tmp_path), "20260721T020000Z-3f9a")) == {}
    assert pa.table(rejected_table([])).num_rows == 0


def test_groups_are_by_reason_source_and_column_with_examples(tmp_path: Path) -> None:
    release = Release(str(tmp_path), "20260721T020000Z-3f9a")
    rows = [rejected_row("a", row, "c", f"v{row}", "x") for row in range(5)]
    rows += [
        rejected_row("b", 0, "c", None, "x"),
        rejected_row("a", 9, "", "v", "y"),
        rejected_summary("a", 90, "", "not listed", "y"),
    ]
    dead_letter.write_dead_letter(release, "interactions", rejected_table(rows[:3]))
    dead_letter.write_dead_letter(release, "more", rejected_table(rows[3:]))
    found = dead_letter.group_release(release, examples=4)
    assert [(g["reason"], g["source"], g["column"], g["rows"]) for g in found] == [
        ("y", "a", "", 91),
        ("x", "a", "c", 5),
        ("x", "b", "c", 1),
    ]
    assert found[1]["examples"] == [{"row": row, "value": f"v{row}"} for row in range(4)]
    assert found[2]["examples"] == [{"row": 0, "value": None}]
    assert sum(g["rows"] for g in found) == sum(dead_letter.count_by_reason(release).values())
