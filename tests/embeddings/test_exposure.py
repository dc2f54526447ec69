from datetime import UTC, datetime

import numpy as np
import pytest

from embeddings.histories.job import HistoriesConfig, read_histories
from embeddings.histories.propensity import with_propensity
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.schema import PROPENSITY

LATER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("lake") / "lake")
    simulate(path, SimulationConfig(members=60, titles=60, days=6, sessions_per_day=2.0, seed=3))
    return Lake.open(path)


@pytest.fixture(scope="module")
def exposed(lake):
    histories, _ = read_histories(lake, LATER, HistoriesConfig())
    return with_propensity(histories, lake, LATER, HistoriesConfig().scan)


def test_most_tokens_were_shown_and_no_propensity_is_beyond_one(exposed):
    values = exposed[PROPENSITY].combine_chunks()
    assert values.offsets.equals(exposed["title_id"].combine_chunks().offsets)
    flat = values.flatten().to_numpy(zero_copy_only=False)
    known = flat[np.isfinite(flat)]
    assert 0.5 < len(known) / len(flat) < 1
    assert 0 < known.min() < known.max() <= 1


def test_titles_played_by_many_were_shown_to_many(exposed):
    flat = exposed[PROPENSITY].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    titles = np.asarray(exposed["title_id"].combine_chunks().flatten())
    plays = {title: int((titles == title).sum()) for title in np.unique(titles[np.isfinite(flat)])}
    order = sorted(plays, key=lambda title: plays[title])
    rare, frequent = (np.isin(titles, half) for half in np.array_split(order, 2))
    assert np.nanmean(flat[frequent]) > np.nanmean(flat[rare])


def test_what_was_shown_later_says_nothing(lake):
    moment = datetime(2025, 12, 29, tzinfo=UTC)
    histories, _ = read_histories(lake, moment, HistoriesConfig())
    early = with_propensity(histories, lake, moment, HistoriesConfig().scan)
    late = with_propensity(histories, lake, LATER, HistoriesConfig().scan)
    assert early[PROPENSITY].null_count == 0
    assert early[PROPENSITY].to_pylist() != late[PROPENSITY].to_pylist()
    known = [[value is not None for value in row] for row in early[PROPENSITY].to_pylist()]
    assert known == [[value is not None for value in row] for row in late[PROPENSITY].to_pylist()]
