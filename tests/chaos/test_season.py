"""The soak's service: what a night knows, who is gone, and which nights are special."""

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.chaos.season import Season
from tests.chaos.soak import planned

NIGHTS = 6


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    return Season.simulated(tmp_path_factory.mktemp("service") / "all", NIGHTS, members=80, titles=40, seed=1)


def test_a_night_knows_only_what_was_before_it_and_who_is_still_there(season, tmp_path):
    for night in (1, NIGHTS):
        season.write_lake(night, tmp_path / str(night))
        events = pq.read_table(tmp_path / str(night) / "interactions" / "part-00000.parquet")
        titles = pq.read_table(tmp_path / str(night) / "titles" / "part-00000.parquet")
        assert pc.max(events["event_time"]).as_py() <= season.moment(night)
        gone = {member for member, last in season.last_of_member.items() if last <= night}
        ended = {title for title, last in season.last_of_title.items() if last <= night}
        assert not gone & set(events["member_id"].to_pylist())
        assert not ended & set(titles["title_id"].to_pylist())
        assert set(events["title_id"].to_pylist()) <= set(titles["title_id"].to_pylist())
    assert ended
    assert gone


def test_what_members_do_next_is_not_in_the_lake_yet(season):
    for night in (1, NIGHTS):
        plays = season.next_plays(night)
        assert plays
        assert all(titles for titles in plays.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_month_has_its_bad_nights_its_crashes_and_one_beginning(seed):
    events = sorted(planned(30, bad=2, crashes=3, seed=seed).values())
    assert events == ["bad lake", "bad model", "crash", "crash", "crash", "from scratch"]
    assert 1 not in planned(30, 2, 3, seed)
