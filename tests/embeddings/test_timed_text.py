"""A title's text has what was known by the moment, and never a tag that came later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.foundation.evaluation_splits import leave_one_out, time_split
from embeddings.histories.job import CATALOGUE, HistoriesConfig, read_histories, run
from embeddings.histories.tags import MAX_TAGS_PER_TITLE, text_as_of
from stores.errors import ContractError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.publishing.suppression_list import SuppressionList, suppress
from stores.releases.release import Plan, Release
from stores.schema import TIMED_TEXT, catalogue_schema

AS_OF = datetime(2024, 6, 1, tzinfo=UTC)
CONFIG = HistoriesConfig()
Tag = tuple[Any, Any, int, str]
"""Member, title, day before `AS_OF`, tag."""


def write(place: Path, tags: list[Tag], texts: dict[int, str] | None = None) -> Lake:
    """Ten members who met titles 0 to 8 on days 9 to 1 before `AS_OF`, and their tags."""
    rows = [
        {"member_id": member, "title_id": title, "event_time": AS_OF - timedelta(days=9 - title), "action": "play"}
        for member in range(10)
        for title in range(9)
    ]
    titles: dict[str, Any] = {"title_id": list(range(9))}
    if texts:
        titles["text"] = [texts.get(title) for title in range(9)]
    members, tagged, days, words = zip(*tags, strict=True) if tags else ((), (), (), ())
    times = pa.array([AS_OF - timedelta(days=day) for day in days], pa.timestamp("us", "UTC"))
    columns = {"member_id": pa.array(members, pa.int64()), "title_id": pa.array(tagged, pa.int64()), "tagged_at": times}
    tables = {"interactions": pa.Table.from_pylist(rows), "titles": pa.table(titles)}
    tables["tags"] = pa.table({**columns, "tag": pa.array(words, pa.string())})
    for name, table in tables.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, place / name / "part-0.parquet")
    return Lake.open(str(place))


def texts(catalogue: pa.Table) -> dict[int, str | None]:
    return dict(zip(catalogue["title_id"].to_pylist(), catalogue["text"].to_pylist(), strict=True))


def at(days: int) -> int:
    return int((AS_OF - timedelta(days=days)).timestamp())


def test_frequent_tags_come_first_after_what_titles_says(tmp_path: Path) -> None:
    tags: list[Tag] = [(1, 0, 5, "Sad"), (2, 0, 4, "epic"), (3, 0, 3, " sad "), (None, 0, 3, "dark"), (1, 1, 5, "  ")]
    lake = write(tmp_path, tags, {0: "A description", 2: "another"})
    found = texts(read_histories(lake, AS_OF, CONFIG)[1])
    assert found == {0: "A description, sad, dark, epic", 1: None, 2: "another", **dict.fromkeys(range(3, 9))}


def test_only_so_many_tags_are_used(tmp_path: Path) -> None:
    lake = write(tmp_path, [(1, 0, 5, f"tag {number:03d}") for number in range(2 * MAX_TAGS_PER_TITLE)])
    text = texts(read_histories(lake, AS_OF, CONFIG)[1])[0]
    assert text is not None
    assert text.split(", ") == [f"tag {number:03d}" for number in range(MAX_TAGS_PER_TITLE)]


def test_a_reading_as_of_a_moment_knows_no_later_tag(tmp_path: Path) -> None:
    lake = write(tmp_path, [(1, 0, 5, "early"), (2, 0, 2, "late")])
    for days, text in ((1, "early, late"), (3, "early"), (6, None)):
        moment = AS_OF - timedelta(days=days)
        catalogue = read_histories(lake, moment, CONFIG)[1]
        assert texts(catalogue)[0] == text
        whole = read_histories(lake, AS_OF, CONFIG)[1]
        assert texts(text_as_of(whole, at(days)))[0] == text, "a whole catalogue that is cut says the same"


def test_no_protocol_lets_a_later_tag_in(tmp_path: Path) -> None:
    """Every member's last title, 8, is asked about, from a history that ends the day before."""
    quiet: list[Tag] = [(1, 8, 5, "early"), (2, 3, 8, "early too")]
    later: list[Tag] = [(3, 8, 1, "own answer"), (4, 0, 1, "after the answer"), (5, 8, 0, "at the end")]
    exams = []
    for place, tags in (("quiet", quiet), ("later", quiet + later)):
        data = read_histories(write(tmp_path / place, tags), AS_OF, CONFIG)
        exams.append([leave_one_out(*data), time_split(*data)])
    for without, with_later in zip(*exams, strict=True):
        assert texts(with_later.catalogue) == texts(without.catalogue)
        assert texts(with_later.candidates) == texts(without.candidates)
    assert texts(exams[0][0].catalogue)[8] == "early"


def test_a_members_own_tags_after_its_question_are_unknown_to_leave_one_out(tmp_path: Path) -> None:
    """Member 1 stops early: its last title is asked on day 5, its tag is older than the whole training part."""
    place = tmp_path / "lake"
    write(place, [(1, 4, 4, "mine"), (2, 4, 4, "another's")])
    path = place / "interactions" / "part-0.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([r for r in rows if r["member_id"] != 1 or r["title_id"] <= 4]), path)
    exam = leave_one_out(*read_histories(Lake.open(str(place)), AS_OF, CONFIG))
    assert exam.moment > at(4)
    assert texts(exam.catalogue)[4] == "another's"


def test_tags_of_erased_members_are_gone(tmp_path: Path) -> None:
    lake = write(tmp_path, [(1, 0, 5, "theirs"), (99, 0, 5, "of one without events"), (2, 0, 5, "kept")])
    salt = SuppressionList("salt", frozenset())
    erased = SuppressionList("salt", frozenset({salt.hash_id(1), salt.hash_id(99)}))
    assert texts(read_histories(lake, AS_OF, CONFIG, erased)[1])[0] == "kept"


def release_of(place: Path, lake: Lake) -> Release:
    plan = Plan(
        release_id="20240601T000000Z-0000", plan_hash="0", lake=str(lake.storage.local()), as_of=AS_OF, shards=1,
        created_at=AS_OF, model_id="m", space_id="1", reference_release=None, previous_release=None, config={},
    )  # fmt: skip
    release = Release(str(place), plan.release_id)
    release.storage.write("plan.json", plan.model_dump_json().encode())
    return release


def test_a_night_reads_tags_and_lists_the_bad_ones(tmp_path: Path) -> None:
    tags: list[Tag] = [(1, 0, 5, "sad")] * 30 + [(1, 99, 5, "x"), (1, None, 5, "x"), (1, 0, -3, "soon"), (4, 0, 5, "y")]
    lake = write(tmp_path / "lake", tags)
    release = release_of(tmp_path / "ws", lake)
    suppress(Storage(str(tmp_path / "ws")), 4)
    report = run(HistoriesConfig(max_bad_fraction=0.2), release)
    assert report.metrics["tags"] == 30
    assert report.metrics["tags_refused"] == {
        "erased member": 1, "event in the future": 1, "title_id is null": 1, "unknown title": 1
    }  # fmt: skip
    letters = release.read_table("dead_letter/tags.parquet").to_pylist()
    assert [(one["row"], one["reason"]) for one in letters if one["row"] >= 0] == [
        (30, "unknown title"),
        (31, "title_id is null"),
        (32, "event in the future"),
    ]
    catalogue = release.read_table(CATALOGUE)
    assert catalogue.schema == catalogue_schema(pa.int64()), "encoders get the columns that they were promised"
    assert texts(catalogue)[0] == "sad"


def test_tags_that_break_the_contract_stop_a_night(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", [(1, 99, 5, "x")] * 3)
    with pytest.raises(ContractError, match="tags: 3 of 3 rows"):
        run(CONFIG, release_of(tmp_path / "ws", lake))
    with pytest.raises(ContractError, match="tags: 3 of 3 rows"):
        read_histories(lake, AS_OF, CONFIG)


def test_a_lake_without_tags_has_no_timed_text(tmp_path: Path) -> None:
    write(tmp_path, [], {0: "said"})
    (tmp_path / "tags" / "part-0.parquet").unlink()
    catalogue = read_histories(Lake.open(str(tmp_path)), AS_OF, CONFIG)[1]
    assert TIMED_TEXT not in catalogue.column_names
    assert text_as_of(catalogue, 0) is catalogue
    assert np.array_equal(catalogue["text"].is_valid(), [True] + [False] * 8)
