"""The choice of an index by measurement: the fastest type whose recall on real queries reaches the target.

Types compete on a sample of the titles. The winner is built on all of them, where its effort is
raised on one half of the queries until the lower end of the recall's interval reaches the target; the
other half judges the result. It stays only if it then beats exact search, which needs no proof.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from retrieval import exact
from retrieval.backends import BACKENDS, Backend
from retrieval.card import Trial
from retrieval.config import IndexConfig
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.recall import Recall, of_scores
from retrieval.vectors import Rows, Scores, Vectors

_FLAT = BACKENDS["flat"]
_SHARES = (0.9, 0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Judge:
    """Queries (q, d) with the oracle's scores (q, k) for them."""

    queries: Vectors
    expected: Scores

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors, k: int) -> "Judge":
        """Ask the oracle for the best k of the vectors (n, d)."""
        return cls(queries, exact.top_k(exact.Titles.of(vectors), queries, k, Filter())[1])

    def halves(self) -> tuple["Judge", "Judge"]:
        """Every other query, to tune on and to judge by; both all of them where there is just one."""
        if len(self.queries) < 2:
            return self, self
        return Judge(self.queries[::2], self.expected[::2]), Judge(self.queries[1::2], self.expected[1::2])

    def measure(self, engine: Engine, wanted: Filter | None = None) -> tuple[Recall | None, float]:
        """Recall and queries per second of an engine, with the filter that `expected` is for."""
        began = time.perf_counter()
        found = engine.search(self.queries, self.expected.shape[1], wanted or Filter())[1]
        seconds = max(time.perf_counter() - began, 1e-9)
        return of_scores(found, self.expected), len(self.queries) / seconds

    def filtered(self, flat: Engine, wanted: Filter) -> tuple["Judge", float]:
        """The same queries under a filter, and how many of them exact search answers per second."""
        began = time.perf_counter()
        expected = flat.search(self.queries, self.expected.shape[1], wanted)[1]
        return Judge(self.queries, expected), len(self.queries) / max(time.perf_counter() - began, 1e-9)


@dataclass(frozen=True)
class Choice:
    """The engine that was chosen, what was measured of it on queries that did not choose it, and all trials."""

    engine: Engine
    recall: Recall | None
    queries_per_second: float | None
    trials: list[Trial] = field(default_factory=list)


def choose(vectors: Vectors, queries: Vectors, config: IndexConfig, rank: Rows | None) -> Choice:
    """The fastest engine for vectors (n, d) that reaches the target on queries (q, d).

    At most `exact_below` titles, or no query to measure with, make it the exact one.
    """
    flat = Engine.of(_FLAT, _FLAT.build(vectors), rank=rank)
    if len(queries) == 0:
        return Choice(flat, None, None)
    judge = Judge.of(vectors, queries, config.recall_at)
    if len(vectors) <= config.exact_below:
        return _judged(_trial(flat, judge, 0.0), flat, [])
    tune, held_out = judge.halves()
    trials = _compete(vectors, tune.queries, config)
    order = sorted((trial for trial in trials if trial.chosen), key=lambda trial: -trial.queries_per_second)
    baseline = _trial(flat, held_out, 0.0)
    for winner in order:
        engine, tuned = _tuned(BACKENDS[winner.backend], vectors, tune, config, rank)
        trials += tuned
        if engine is None:
            continue
        final = _trial(engine, held_out, tuned[-1].build_seconds)
        if _reaches(final, config, lower_end=False) and final.queries_per_second > baseline.queries_per_second:
            engine = replace(engine, filter_from=_filter_from(engine, flat, tune, config))
            return _judged(final, engine, [*_unmarked(trials), _unmarked([baseline])[0]])
    return _judged(baseline, flat, _unmarked(trials))


def _judged(trial: Trial, engine: Engine, others: list[Trial]) -> Choice:
    trials = [*others, trial.model_copy(update={"chosen": True})]
    return Choice(engine, trial.recall, trial.queries_per_second, trials)


def _compete(vectors: Vectors, queries: Vectors, config: IndexConfig) -> list[Trial]:
    """Trials on a sample of the titles; those that reach the target there are marked."""
    generator = np.random.default_rng(config.seed)
    size = min(config.trial_titles, len(vectors))
    sample = vectors[np.sort(generator.choice(len(vectors), size, replace=False))]
    judge = Judge.of(sample, queries, config.recall_at)
    trials: list[Trial] = []
    for backend in _legal(vectors, config):
        trials += _tuned(backend, sample, judge, config, None)[1]
    return trials


def _legal(vectors: Vectors, config: IndexConfig) -> list[Backend]:
    """Types within the memory limit."""
    count, dim = vectors.shape
    backends = [BACKENDS[name] for name in config.backends]
    limit = config.memory_bytes
    return [backend for backend in backends if limit is None or count * backend.bytes_per_title(dim) <= limit]


def _tuned(
    backend: Backend, vectors: Vectors, judge: Judge, config: IndexConfig, rank: Rows | None
) -> tuple[Engine | None, list[Trial]]:
    """An engine with the least effort that reaches the target, or None, and the trials on the way."""
    began = time.perf_counter()
    index = backend.build(vectors)
    seconds = time.perf_counter() - began
    trials: list[Trial] = []
    for effort in backend.efforts:
        engine = Engine.of(backend, index, effort, rank)
        trial = _trial(engine, judge, seconds)
        if _reaches(trial, config, lower_end=True):
            backend.set_effort(index, effort)
            return engine, [*trials, trial.model_copy(update={"chosen": True})]
        trials.append(trial)
    return None, trials


def _filter_from(engine: Engine, flat: Engine, judge: Judge, config: IndexConfig) -> float:
    """The smallest share of titles, allowed at random, with which the engine reaches the target faster than exact."""
    generator = np.random.default_rng(config.seed)
    lowest = 1.0
    for share in _SHARES:
        wanted = Filter(generator.random(len(engine.titles)) < share)
        filtered, floor = judge.filtered(flat, wanted)
        recall, speed = filtered.measure(replace(engine, filter_from=0.0), wanted)
        if recall is None or recall.value < config.target_recall or speed < floor:
            break
        lowest = share
    return lowest


def _trial(engine: Engine, judge: Judge, build_seconds: float) -> Trial:
    recall, speed = judge.measure(engine)
    return Trial(
        backend=engine.backend.name,
        effort=engine.effort,
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
