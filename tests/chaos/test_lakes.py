"""The short form of `lakes.py`: strange lakes in any physical form, each with one bad cell."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stores.lake.tables import Kind
from tests.chaos.lakes import examine, read
from tests.chaos.storing import CELLS, FORMS, WRITINGS, id_forms
from tests.chaos.strange_lakes import STRUCTURES, StrangeLake, problems


@pytest.mark.parametrize("seed", range(25))
def test_every_row_of_a_strange_lake_is_right_or_refused_by_name(seed: int) -> None:
    assert examine(seed) == []


def test_the_oracle_notices_what_it_is_for(tmp_path: Path) -> None:
    """A row that is lost, one that is another's, one that is counted twice, a value that is another."""
    lake = StrangeLake(0)
    found = read(lake, _written(lake, tmp_path))
    assert problems(lake, found) == []
    histories = found.histories
    found.histories = histories.slice(1)
    assert any("is lost" in one for one in problems(lake, found))
    found.histories = histories.set_column(0, "member_id", histories["member_id"].take([*range(1, len(histories)), 0]))
    assert any("never written" in one for one in problems(lake, found))
    found.histories = histories
    durations = histories["duration_s"].combine_chunks()
    other = pa.ListArray.from_arrays(durations.offsets, pc.add(durations.values, 1.0))
    found.histories = histories.set_column(histories.schema.get_field_index("duration_s"), "duration_s", other)
    assert any("duration_s is" in one for one in problems(lake, found))
    found.histories = histories
    found.metrics["events_accepted"] += 1
    assert any("events_read" in one for one in problems(lake, found))


def _written(lake: StrangeLake, folder: Path) -> Path:
    lake.write(folder / "lake")
    return folder


def test_the_generator_has_every_kind_and_the_lakes_use_all_of_it() -> None:
    kinds = set(Kind) - {Kind.ID}
    assert set(FORMS) == kinds
    assert set(CELLS) == kinds
    lakes = [StrangeLake(seed) for seed in range(500)]
    assert {lake.structure for lake in lakes} == set(STRUCTURES)
    forms = {form.name for lake in lakes for files in lake.tables.values() for f in files for form in f.forms.values()}
    every = {form.name for some in (*FORMS.values(), id_forms(True), id_forms(False)) for form in some}
    assert every - forms == set()
    spoilt = {lake.spoilt.table for lake in lakes}
    assert spoilt == {"interactions", "titles", "impressions", "members"}
    assert len({lake.spoilt.cell.name for lake in lakes}) > 70


@pytest.mark.parametrize("name", WRITINGS)
def test_each_way_of_writing_can_be_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = StrangeLake(1)
    monkeypatch.setattr(lake.random, "choice", lambda some: name if name in some else some[0])
    lake.write(tmp_path / "lake")
    assert problems(lake, read(lake, tmp_path)) == []
    assert pq.read_table(tmp_path / "lake" / "titles" / "part-0.parquet").num_rows
