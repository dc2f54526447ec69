import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex, autotune
from retrieval.backends import BACKENDS, TrainQueries
from retrieval.filters import Filter
from retrieval.index_metadata import Trial
from retrieval.recall import Recall, recall_of_scores


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(4000, 8)).astype(np.float32), rng.normal(size=(600, 8)).astype(np.float32)


@pytest.fixture
def exact_is_slow(monkeypatch):
    """A catalogue in which exact search is too slow, so that the choice among the others can be seen."""
    real = autotune._trial

    def slow(engine, judge, seconds):
        trial = real(engine, judge, seconds)
        return trial if engine.backend.search_efforts else trial.model_copy(update={"queries_per_second": 0.1})

    monkeypatch.setattr(autotune, "_trial", slow)


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
    assert (chosen.backend, chosen.search_effort, chosen.titles) == (index.card.backend, index.card.search_effort, 4000)


@pytest.fixture(scope="module", params=["ivf_routed", "hnsw", "hnsw_sq8", "ivf_flat"])
def approximate(request, data):
    """An index of one type, as it is chosen where exact search is too slow even under filters."""
    rng = np.random.default_rng(6)
    members = rng.normal(size=(3000, 8)).astype(np.float32)
    real, filtered = autotune._trial, autotune.EvalQueries.filtered

    def slow(engine, judge, seconds):
        trial = real(engine, judge, seconds)
        return trial if engine.backend.search_efforts else trial.model_copy(update={"queries_per_second": 0.1})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotune, "_trial", slow)
        patch.setattr(autotune.EvalQueries, "filtered", lambda *asked: (filtered(*asked)[0], 0.0))
        config = IndexConfig(exact_below=100, target_recall=0.95, queries=600, backends=(request.param,))
        index = TitleIndex.build(np.arange(4000), data[0], members, config)
    assert index.card.backend == request.param
    return index


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.95, 1.0])
def test_recall_holds_under_random_filters_and_nothing_forbidden_comes_back(data, approximate, share):
    allowed = np.random.default_rng(int(share * 1000)).random(4000) < share
    assert approximate.measure(data[1], 10, allowed=allowed).high >= 0.95
    found, scores = approximate.search(data[1], 10, allowed=allowed)
    assert ((found >= 0).sum(axis=1) == min(10, allowed.sum())).all()
    assert allowed[found[found >= 0]].all()
    true = np.einsum("qd,qkd->qk", data[1].astype(np.float64), data[0].astype(np.float64)[found])
    assert np.array_equal(scores[found >= 0], true.astype(np.float32)[found >= 0])


@pytest.mark.parametrize("k", [10, 20, 50, 100, 500])
def test_recall_holds_for_more_titles_than_it_was_tuned_for(data, approximate, k):
    assert approximate.measure(data[1], k).high >= 0.95


@pytest.mark.parametrize("name", ["hnsw", "hnsw_sq8", "ivf_flat"])
def test_the_least_effort_is_taken_whose_lower_end_reaches_the_target(data, name):
    judge = autotune.EvalQueries.of(*data, 10)
    config = IndexConfig(target_recall=0.97)
    engine, tried = autotune._tune_backend(BACKENDS[name], data[0], (None, judge), config, None)
    assert engine is not None
    by_effort = {trial.search_effort: trial for trial in tried}
    assert len(by_effort) == len(tried)
    assert [trial.search_effort for trial in tried if trial.chosen] == [engine.search_effort]
    assert by_effort[engine.search_effort].recall.low >= 0.97
    place = BACKENDS[name].search_efforts.index(engine.search_effort)
    assert place == 0 or by_effort[BACKENDS[name].search_efforts[place - 1]].recall.low < 0.97


@pytest.mark.parametrize(("confirmed", "chosen"), [(48, "hnsw 48"), (64, "hnsw 64"), (96, "flat 0")])
def test_effort_is_raised_until_held_out_queries_confirm_it(data, monkeypatch, exact_is_slow, confirmed, chosen):
    """The half that tunes is content with 32, the other one with more; two steps are taken at most."""
    slow = autotune._trial

    def told(engine, judge, seconds):
        trial = slow(engine, judge, seconds)
        if engine.backend.name == "flat":
            return trial
        held_out = np.array_equal(judge.queries, data[1][1::2])
        value = 0.99 if engine.search_effort >= (confirmed if held_out else 32) else 0.5
        return trial.model_copy(update={"recall": Recall(value=value, low=value, high=1.0, queries=9, k=10)})

    monkeypatch.setattr(autotune, "_trial", told)
    monkeypatch.setattr(autotune, "_with_limits", lambda engine, *_: engine)
    config = IndexConfig(exact_below=0, trial_titles=1000, target_recall=0.9, backends=("hnsw",))
    engine = autotune.autotune(*data, config, None).engine
    assert f"{engine.backend.name} {engine.search_effort}" == chosen


@pytest.mark.parametrize(("on_a_third", "built"), [(100.0, False), (160.0, True)])
def test_a_second_type_is_built_on_all_titles_only_if_it_is_faster_on_a_third(data, monkeypatch, on_a_third, built):
    real = autotune._trial
    speeds = {("ivf_flat", 1000): 200.0, ("ivf_flat", 4000): 150.0, ("hnsw", 1000): 180.0, ("hnsw", 1333): on_a_third}

    def told(engine, judge, seconds):
        speed = speeds.get((engine.backend.name, len(engine.titles)), 1.0)
        return real(engine, judge, seconds).model_copy(update={"queries_per_second": speed})

    monkeypatch.setattr(autotune, "_trial", told)
    config = IndexConfig(exact_below=0, trial_titles=1000, target_recall=0.9, backends=("ivf_flat", "hnsw"))
    choice = autotune.autotune(*data, config, None)
    assert choice.engine.backend.name == "ivf_flat"
    assert any((trial.backend, trial.titles) == ("hnsw", 4000) for trial in choice.trials) == built


def test_an_effort_is_found_though_a_perfect_sample_proves_less_than_a_nearly_perfect_one(data, monkeypatch):
    real = autotune._trial

    def told(engine, judge, seconds):
        low, value = {96: (0.9991, 0.9995)}.get(
            engine.search_effort, (0.998, 1.0) if engine.search_effort > 96 else (0.9, 0.95)
        )
        recall = Recall(value=value, low=low, high=1.0, queries=len(judge.queries), k=10)
        return real(engine, judge, seconds).model_copy(update={"recall": recall})

    monkeypatch.setattr(autotune, "_trial", told)
    judge = autotune.EvalQueries.of(data[0], data[1][:50], 10)
    engine, _ = autotune._tune_backend(BACKENDS["hnsw"], data[0], (None, judge), IndexConfig(target_recall=0.999), None)
    assert engine is not None
    assert engine.search_effort == 96


@pytest.mark.parametrize(("count", "least"), [(count, least) for count in (1, 2, 7, 32) for least in range(count + 1)])
def test_the_least_of_a_row_is_found_without_trying_each(count, least):
    asked = []
    found = autotune._first_true(lambda place: asked.append(place) or place >= least, count)
    assert found == (least if least < count else None)
    assert len(set(asked)) == len(asked) <= 2 * count.bit_length()


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


@pytest.mark.parametrize(("name", "effort"), [("ivf_flat", 8), ("ivf_routed", 8)])
def test_measured_recall_lies_in_its_interval_of_the_whole(data, name, effort):
    """Trials hold the recall of the whole population as often as the interval says: 95 %, 19 of 20."""
    backend = BACKENDS[name]
    rng = np.random.default_rng(5)
    members = rng.normal(size=(8000, 8)).astype(np.float32)
    guide = TrainQueries(rng.normal(size=(2000, 8)).astype(np.float32))
    engine = autotune.Engine.of(backend, backend.build(data[0], guide), effort)
    whole = autotune.EvalQueries.of(data[0], members, 10)
    found = engine.search(members, 10, Filter())[1]
    truth = recall_of_scores(found, whole.expected).value
    assert truth < 1
    inside = []
    for _ in range(400):
        rows = rng.choice(8000, 400, replace=False)
        recall = recall_of_scores(found[rows], whole.expected[rows])
        inside.append(recall.low <= truth <= recall.high)
    assert np.mean(inside) >= 0.93
    assert np.median([sum(inside[start : start + 20]) for start in range(0, 400, 20)]) >= 19


def test_the_recall_on_the_card_lies_in_its_interval_of_all_members_in_19_of_20_builds(data, exact_is_slow):
    """What is written about an index that was chosen, with everything that choosing it may have spoilt."""
    members = np.random.default_rng(8).normal(size=(6000, 8)).astype(np.float32)
    whole = autotune.EvalQueries.of(data[0], members, 10)
    inside = []
    for seed in range(20):
        asked = members[np.random.default_rng(seed).choice(6000, 800, replace=False)]
        config = IndexConfig(
            exact_below=100, target_recall=0.8, trial_titles=1000, queries=800, backends=("ivf_flat",), seed=seed
        )
        index = TitleIndex.build(np.arange(4000), data[0], asked, config)
        truth = recall_of_scores(index.search(members, 10)[1], whole.expected).value
        assert index.card.backend == "ivf_flat"
        assert truth < 1
        inside.append(index.card.recall.low <= truth <= index.card.recall.high)
    assert sum(inside) >= 19


def test_a_trial_can_be_written_and_read():
    recall = Recall(k=10, queries=5, value=0.5, low=0.1, high=0.9)
    trial = Trial(backend="hnsw", search_effort=16, titles=9, recall=recall, queries_per_second=3.5, build_seconds=0.25)
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
