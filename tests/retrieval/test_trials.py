import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex, trials
from retrieval.backends import BACKENDS
from retrieval.card import Trial
from retrieval.recall import Recall


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(4000, 8)).astype(np.float32), rng.normal(size=(600, 8)).astype(np.float32)


@pytest.fixture
def exact_is_slow(monkeypatch):
    """A catalogue in which exact search is too slow, so that the choice among the others can be seen."""
    real = trials._trial

    def slow(engine, judge, seconds):
        trial = real(engine, judge, seconds)
        return trial if engine.backend.efforts else trial.model_copy(update={"queries_per_second": 0.1})

    monkeypatch.setattr(trials, "_trial", slow)


def test_the_chosen_type_reaches_the_target_on_queries_that_did_not_choose_it(data, exact_is_slow):
    config = IndexConfig(exact_below=100, target_recall=0.9, trial_titles=1500)
    index = TitleIndex.build(np.arange(4000), *data, config)
    assert index.card.backend in config.backends
    assert index.recall.value >= 0.9
    assert index.recall.queries == 300
    assert index.measure(data[1], 10).value >= 0.88
    tried = {trial.backend for trial in index.trials if trial.titles == 1500}
    assert tried == set(config.backends)
    [chosen] = [trial for trial in index.trials if trial.chosen]
    assert (chosen.backend, chosen.effort, chosen.titles) == (index.card.backend, index.card.effort, 4000)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.8, 0.95])
def test_recall_holds_under_random_filters(data, exact_is_slow, share):
    index = TitleIndex.build(np.arange(4000), *data, IndexConfig(exact_below=100, target_recall=0.95))
    assert index.card.backend != "flat"
    allowed = np.random.default_rng(int(share * 1000)).random(4000) < share
    assert index.measure(data[1], 10, allowed=allowed).high >= 0.95


@pytest.mark.parametrize("name", ["hnsw", "hnsw_sq8", "ivf_flat"])
def test_effort_rises_until_the_lower_end_reaches_the_target(data, name):
    judge = trials.Judge.of(*data, 10)
    config = IndexConfig(target_recall=0.97)
    engine, tried = trials._tuned(BACKENDS[name], data[0], judge, config, None)
    assert engine is not None
    assert [trial.effort for trial in tried[:-1]] == list(BACKENDS[name].efforts[: len(tried) - 1])
    assert all(trial.recall.low < 0.97 for trial in tried[:-2])
    assert tried[-1].recall.low >= 0.97
    assert [trial.chosen for trial in tried] == [False] * (len(tried) - 1) + [True]


def test_exact_where_it_is_fastest_small_or_nothing_was_measured(data, monkeypatch):
    titles, members = data
    assert TitleIndex.build(np.arange(4000), titles, members).card.backend == "flat"
    config = IndexConfig(exact_below=0)
    assert TitleIndex.build(np.arange(4000), titles, None, config).card.backend == "flat"
    none = IndexConfig(exact_below=0, memory_bytes=1000)
    index = TitleIndex.build(np.arange(4000), titles, members, none)
    assert index.card.backend == "flat"
    assert {trial.backend for trial in index.trials} == {"flat"}


def test_too_few_queries_prove_nothing_so_search_is_exact(data, exact_is_slow):
    config = IndexConfig(exact_below=0, trial_titles=500)
    assert TitleIndex.build(np.arange(4000), data[0], data[1][:8], config).card.backend == "flat"


def test_measured_recall_lies_in_its_interval_of_the_whole(data):
    """The whole population's recall lies within the interval measured on a sample, in 19 of 20 seeded trials."""
    backend, inside = BACKENDS["ivf_flat"], 0
    rng = np.random.default_rng(5)
    members = rng.normal(size=(8000, 8)).astype(np.float32)
    engine = trials.Engine.of(backend, backend.build(data[0]), 8)
    whole = trials.Judge.of(data[0], members, 10)
    truth = whole.measure(engine)[0].value
    assert truth < 1
    for _ in range(20):
        rows = rng.choice(8000, 400, replace=False)
        sample = trials.Judge(members[rows], whole.expected[rows])
        recall = sample.measure(engine)[0]
        inside += recall.low <= truth <= recall.high
    assert inside >= 19


def test_a_trial_can_be_written_and_read():
    recall = Recall(k=10, queries=5, value=0.5, low=0.1, high=0.9)
    trial = Trial(backend="hnsw", effort=16, titles=9, recall=recall, queries_per_second=3.5, build_seconds=0.25)
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
