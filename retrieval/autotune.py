"""The choice of an index by measurement: the fastest type whose recall on real queries reaches the target.

Types compete on a sample of the titles. The best `_NUM_FINALISTS` are built on all of them, the second only if it is
faster on a third of them too. There one half of the judging queries finds the least effort at which the lower end of
the recall's interval reaches the target, and the other half judges the result. The fastest stays if it beats exact
search, which needs no proof.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from retrieval import exact
from retrieval.backends import BACKENDS, Backend, TrainQueries
from retrieval.config import IndexConfig
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.index_metadata import Trial
from retrieval.recall import Recall, recall_of_scores
from retrieval.vectors import Rows, Scores, Vectors

_FLAT = BACKENDS["flat"]
_TRIAL_FILTER_SHARES = (0.9, 0.75, 0.5, 0.25)
_TRIAL_DEPTHS = (1, 2, 5, 10)
"""Multiples of `recall_at` up to which recall is looked at."""
_NUM_FINALISTS, _RACE_ROUNDS = 2, 2
_EXTRA_EFFORTS = 2
"""By how many steps effort is raised at most where held-out queries do not confirm it."""
_LIMIT_QUERIES = 1000
"""Queries on which filters and depths are tried; each try takes an exact search."""


@dataclass(frozen=True)
class EvalQueries:
    """Queries (q, d) with the oracle's scores (q, k) for them."""

    queries: Vectors
    expected: Scores

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors, k: int) -> "EvalQueries":
        """Ask the oracle for the best k of the vectors (n, d)."""
        return cls(queries, exact.top_k(exact.TitleVectors.of(vectors), queries, k, Filter())[1])

    def halves(self) -> tuple["EvalQueries", "EvalQueries"]:
        """Every other query, to tune on and to judge by; both all of them where there is just one."""
        if len(self.queries) < 2:
            return self, self
        return EvalQueries(self.queries[::2], self.expected[::2]), EvalQueries(self.queries[1::2], self.expected[1::2])

    def first(self, count: int) -> "EvalQueries":
        """Some of the queries, where all of them would take too long."""
        return EvalQueries(self.queries[:count], self.expected[:count])

    def measure(self, engine: Engine, wanted: Filter | None = None) -> tuple[Recall | None, float]:
        """Recall and queries per second of an engine, with the filter that `expected` is for."""
        began = time.perf_counter()
        found = engine.search(self.queries, self.expected.shape[1], wanted or Filter())[1]
        seconds = max(time.perf_counter() - began, 1e-9)
        return recall_of_scores(found, self.expected), len(self.queries) / seconds

    def filtered(self, flat: Engine, wanted: Filter) -> tuple["EvalQueries", float]:
        """The same queries under a filter, and how many of them exact search answers per second."""
        began = time.perf_counter()
        expected = flat.search(self.queries, self.expected.shape[1], wanted)[1]
        return EvalQueries(self.queries, expected), len(self.queries) / max(time.perf_counter() - began, 1e-9)


@dataclass(frozen=True)
class TunedIndex:
    """The engine that was chosen, what was measured of it on queries that did not choose it, and all trials."""

    engine: Engine
    recall: Recall | None
    queries_per_second: float | None
    trials: list[Trial] = field(default_factory=list)


def autotune(vectors: Vectors, queries: Vectors, config: IndexConfig, rank: Rows | None) -> TunedIndex:
    """The fastest engine for vectors (n, d) that reaches the target on queries (q, d).

    The last `config.queries` of them choose and judge, those before guide. At most `exact_below` titles, or
    no query to measure with, make it the exact one.
    """
    flat = Engine.of(_FLAT, _FLAT.build(vectors), rank=rank)
    if len(queries) == 0:
        return TunedIndex(flat, None, None)
    judge = EvalQueries.of(vectors, queries[-config.queries :], config.recall_at)
    if len(vectors) <= config.exact_below:
        return _measure_trial(_trial(flat, judge, 0.0), flat, [])
    return _select_winner(vectors, queries[: -config.queries], (flat, judge), config)


def _select_winner(
    vectors: Vectors, spare: Vectors, known: tuple[Engine, EvalQueries], config: IndexConfig
) -> TunedIndex:
    """The outcome of the competition in a catalogue that is large enough for one; `spare` queries (q, d) only guide."""
    flat, judge = known
    tune, held_out = judge.halves()
    guide = TrainQueries(np.concatenate([spare, tune.queries]), config.seed)
    trials = _run_trials(
        _fitting_backends(vectors, config), _sample(vectors, config.trial_titles, config), guide, tune, config
    )
    finals = [(_trial(flat, held_out, 0.0), flat)]
    for first in _finalists(trials):
        backend, bar = BACKENDS[first.backend], max(final.queries_per_second for final, _ in finals)
        if first.queries_per_second < bar:
            break  # nothing is faster among all titles than among a sample of them
        if len(finals) > 1 and len(vectors) // 3 > config.trial_titles:
            # nor than among a third of them, which saves most of building a graph that is slower
            third = _run_trials([backend], _sample(vectors, len(vectors) // 3, config), guide, tune, config)
            trials += third
            if not any(trial.queries_per_second >= bar for trial in _finalists(third)):
                continue
        engine, tuned = _tune_backend(backend, vectors, (guide, tune), config, flat.titles.rank)
        trials += tuned
        if engine is not None:
            *failed, final = _confirm_recall(engine, held_out, tuned[-1].build_seconds, config)
            trials += [trial for trial, _ in failed]
            if _reaches(final[0], config, lower_end=False):
                finals.append(final)
            else:
                trials.append(final[0])
    finals = _race(finals, held_out)
    best, engine = max(finals, key=lambda final: final[0].queries_per_second)
    if engine is not flat:
        engine = _with_limits(engine, flat, held_out.first(_LIMIT_QUERIES), config)
    others = [trial for trial, _ in finals if trial is not best]
    return _measure_trial(best, engine, _unmarked([*trials, *others]))


def _confirm_recall(
    engine: Engine, judge: EvalQueries, seconds: float, config: IndexConfig
) -> list[tuple[Trial, Engine]]:
    """The engine as held-out queries judge it; where they do not confirm the target, also with the next efforts."""
    judged: list[tuple[Trial, Engine]] = []
    for effort in [effort for effort in engine.backend.search_efforts if effort >= engine.search_effort][
        : 1 + _EXTRA_EFFORTS
    ]:
        engine = replace(engine, search_effort=effort)
        engine.backend.set_search_effort(engine.index, effort)
        judged.append((_trial(engine, judge, seconds), engine))
        if _reaches(judged[-1][0], config, lower_end=False):
            break
    return judged


def _race(finals: list[tuple[Trial, Engine]], judge: EvalQueries) -> list[tuple[Trial, Engine]]:
    """The same at the fastest of some rounds in which they take turns: a moment's other work must not choose."""
    for _ in range(_RACE_ROUNDS if len(finals) > 1 else 0):
        again = [(_trial(engine, judge, trial.build_seconds), engine) for trial, engine in finals]
        finals = [max(pair, key=lambda final: final[0].queries_per_second) for pair in zip(finals, again, strict=True)]
    return finals


def _finalists(trials: list[Trial]) -> list[Trial]:
    """The fastest types of those that reached the target on the sample, as they did so."""
    return sorted((trial for trial in trials if trial.chosen), key=lambda trial: -trial.queries_per_second)[
        :_NUM_FINALISTS
    ]


def _measure_trial(trial: Trial, engine: Engine, others: list[Trial]) -> TunedIndex:
    trials = [*others, trial.model_copy(update={"chosen": True})]
    return TunedIndex(engine, trial.recall, trial.queries_per_second, trials)


def _run_trials(
    backends: list[Backend], sample: Vectors, guide: TrainQueries, judge: EvalQueries, config: IndexConfig
) -> list[Trial]:
    """Trials of some types on a sample of the titles; those that reach the target there are marked."""
    there = EvalQueries.of(sample, judge.queries, config.recall_at)
    return [trial for backend in backends for trial in _tune_backend(backend, sample, (guide, there), config, None)[1]]


def _sample(vectors: Vectors, size: int, config: IndexConfig) -> Vectors:
    size = min(size, len(vectors))
    return vectors[np.sort(np.random.default_rng(config.seed).choice(len(vectors), size, replace=False))]


def _fitting_backends(vectors: Vectors, config: IndexConfig) -> list[Backend]:
    """Types within the memory limit."""
    count, dim = vectors.shape
    backends = [BACKENDS[name] for name in config.backends]
    limit = config.memory_bytes
    return [backend for backend in backends if limit is None or count * backend.bytes_per_title(dim) <= limit]


def _tune_backend(
    backend: Backend,
    vectors: Vectors,
    members: tuple[TrainQueries, EvalQueries],
    config: IndexConfig,
    rank: Rows | None,
) -> tuple[Engine | None, list[Trial]]:
    """An engine with the least effort that reaches the target, or None, and the trials on the way."""
    guide, judge = members
    began = time.perf_counter()
    index = backend.build(vectors, guide)
    seconds = time.perf_counter() - began
    trials: dict[int, Trial] = {}

    def engine_of(effort: int) -> Engine:
        return replace(Engine.of(backend, index, effort, rank), tuned_k=config.recall_at)

    def enough(place: int) -> bool:
        effort = backend.search_efforts[place]
        trials[effort] = trial = _trial(engine_of(effort), judge, seconds)
        return _reaches(trial, config, lower_end=True) or (trial.recall is not None and trial.recall.value == 1)

    _first_true(
        enough, len(backend.search_efforts)
    )  # the largest may be perfect and prove less than one that is nearly so
    proven = [effort for effort, trial in trials.items() if _reaches(trial, config, lower_end=True)]
    engine = None
    if proven:
        backend.set_search_effort(index, effort := min(proven))
        engine, trials[effort] = engine_of(effort), trials[effort].model_copy(update={"chosen": True})
    return engine, [trials[effort] for effort in sorted(trials)]


def _first_true(holds: Callable[[int], bool], count: int) -> int | None:
    """The least number below `count` of those for which something holds, which it does for all larger ones; None if
    for none. It is looked for upwards, in steps that double, and then between: small efforts are quick to try.
    """
    low, high = -1, min(1, count - 1)
    while not holds(high):
        if high == count - 1:
            return None
        low, high = high, min(2 * high + 1, count - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _with_limits(engine: Engine, flat: Engine, judge: EvalQueries, config: IndexConfig) -> Engine:
    """The engine with the filters and depths up to which it reaches the target faster than exact search."""
    return replace(
        engine,
        min_filter_share=_min_filter_share(engine, flat, judge, config),
        max_exact_k=_max_exact_k(engine, flat, judge, config),
    )


def _min_filter_share(engine: Engine, flat: Engine, judge: EvalQueries, config: IndexConfig) -> float:
    """The smallest share of titles, allowed at random, with which the engine reaches the target faster than exact."""
    generator = np.random.default_rng(config.seed)
    lowest = 1.0
    for share in _TRIAL_FILTER_SHARES:
        wanted = Filter(generator.random(len(engine.titles)) < share)
        if not _is_faster_than_exact(replace(engine, min_filter_share=0.0), flat, judge, wanted, config):
            break
        lowest = share
    return lowest


def _max_exact_k(engine: Engine, flat: Engine, judge: EvalQueries, config: IndexConfig) -> int:
    """The largest k with which the engine reaches the target faster than exact search."""
    reach = config.recall_at
    for depth in _TRIAL_DEPTHS[1:]:
        k = depth * config.recall_at
        deeper = EvalQueries(judge.queries, np.zeros((len(judge.queries), k), np.float32))
        if not _is_faster_than_exact(engine, flat, deeper, Filter(), config):
            break
        reach = k
    return reach


def _is_faster_than_exact(
    engine: Engine, flat: Engine, judge: EvalQueries, wanted: Filter, config: IndexConfig
) -> bool:
    filtered, floor = judge.filtered(flat, wanted)
    recall, speed = filtered.measure(engine, wanted)
    return recall is not None and recall.low >= config.target_recall and speed >= floor


def _trial(engine: Engine, judge: EvalQueries, build_seconds: float) -> Trial:
    recall, speed = judge.measure(engine)
    return Trial(
        backend=engine.backend.name,
        search_effort=engine.search_effort,
        titles=len(engine.titles),
        recall=recall,
        queries_per_second=round(speed, 1),
        build_seconds=round(build_seconds, 3),
    )


def _reaches(trial: Trial, config: IndexConfig, lower_end: bool) -> bool:
    recall = trial.recall
    return recall is not None and (recall.low if lower_end else recall.value) >= config.target_recall


def _unmarked(trials: list[Trial]) -> list[Trial]:
    return [trial.model_copy(update={"chosen": False}) for trial in trials]
