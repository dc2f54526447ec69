"""The best titles of every member: a Ray job, one shard of members after the other, exact and filtered.

A shard of `members/` and the shard of `histories/` of the same name give the shard of `candidates/`. Workers are
processes of one core each, because a product that is cut to fit one core's cache gains nothing from two.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval import exact
from retrieval.config import CandidatesConfig
from retrieval.filters import Filter
from retrieval.index import TitleIndex
from retrieval.lookup import AVAILABLE_COUNTRIES, MATURITY, allowed_titles, open_index, titles_in_index_order
from retrieval.release_reader import read_embeddings
from retrieval.vectors import Rows, Scores, Vectors
from stores.feast.feature_views import CANDIDATES
from stores.feast.release_diff import with_versions
from stores.progress import Progress
from stores.ray_capacity import ONE_CPU, Capacity
from stores.ray_pool import ElasticActorPool, WorkerSpec
from stores.releases.release import Release, StageReport
from stores.schema import COUNTRY, EMBEDDING, MEMBER_ID, TITLE_ID

TITLE_IDS, SCORES = CANDIDATES.columns
_MIN_SCORES_FOR_NUMBA = 1_500_000_000
"""So many scores a worker make compiled loops pay: they save most of a nanosecond each, and take a second to load."""
CountryGroup = tuple[str | None, Rows]
"""A country, and the rows of a shard that are asked with it."""


def run(config: CandidatesConfig, release: Release) -> StageReport:
    """Write `candidates/part-*.parquet`: `member_id`, `title_ids` and `scores` (float32), best first, and their origin.

    Shards that are finished are not redone. Scores are the inner products of the published vectors. Raises CorruptError
    and MismatchError where the release's index is not that of its titles.
    """
    paths = [path for path in release.storage.files("members") if path.endswith(".parquet")]
    todo = [path for path in paths if not release.completed_file(_target(path))]
    if todo:
        # of all shards, so that a resumed job goes on as it began
        workers = min(config.workers or max(1, Capacity().max_actors(ONE_CPU)), len(paths))
        compiled = _count_scores(release, paths) >= workers * _MIN_SCORES_FOR_NUMBA
        _map_shards(config, release, todo, compiled)
    entries = [entry for entry in release.completed_files() if entry.path.startswith(f"{CANDIDATES.folder}/")]
    rows = sum(entry.rows for entry in entries)
    return StageReport(name="candidates", rows=rows, metrics={"k": config.k, "shards": len(paths), "made": len(todo)})


def _target(path: str) -> str:
    return f"{CANDIDATES.folder}/{path.rsplit('/', 1)[-1]}"


def _map_shards(config: CandidatesConfig, release: Release, paths: list[str], compiled: bool) -> None:
    def make() -> Any:
        import ray

        return ray.remote(CandidateWorker).options(num_cpus=1).remote(config, release, compiled)

    spec = WorkerSpec(make, method="write", name="candidates worker", most=config.workers, ahead=1)
    with ElasticActorPool(spec) as pool, Progress("candidates", len(paths), "shards") as progress:
        for rows in pool.run(paths):
            progress.advance(1, f"{rows:,} members in the last")


def _count_scores(release: Release, paths: list[str]) -> int:
    """How many scores there are of the members in some shards and all titles."""
    rows = {entry.path: entry.rows for entry in release.completed_files()}
    titles = sum(count for path, count in rows.items() if path.startswith("titles/"))
    return titles * sum(rows[path] for path in paths)


class CandidateWorker:
    """Holds the titles of a release and chooses among them for one shard of members after the other."""

    def __init__(self, config: CandidatesConfig, release: Release, compiled: bool = False) -> None:
        self.config, self.release, self.compiled = config, release, compiled
        self.masks: dict[str | None, Any] = {}

    @cached_property
    def index(self) -> TitleIndex:
        """The release's own index, of which only ids and vectors are used: candidates are exact."""
        return open_index(self.release, "candidates")

    @cached_property
    def vectors(self) -> exact.TitleVectors:
        """The titles' vectors, for compiled loops if the job is large."""
        return replace(self.index.engine.titles, compiled=self.compiled)

    @cached_property
    def titles(self) -> pa.Table:
        """What filters know of the titles, in the order of the index."""
        return titles_in_index_order(self.release, self.index, [AVAILABLE_COUNTRIES, MATURITY])

    def write(self, path: str) -> int:
        """Choose for the members of one shard and write them; how many they are."""
        members = self.release.read_table(path, [MEMBER_ID, EMBEDDING])
        histories = self.release.read_table(f"histories/{path.rsplit('/', 1)[-1]}", [MEMBER_ID, TITLE_ID, COUNTRY])
        known = histories.take(pc.index_in(members[MEMBER_ID], value_set=histories[MEMBER_ID].combine_chunks()))
        rows, scores = self.choose(read_embeddings(members, path), known)
        table = self._table(members[MEMBER_ID], rows, scores)
        return self.release.write_table(
            _target(path), with_versions(CANDIDATES, self.release, _target(path), table)
        ).rows

    def choose(self, queries: Vectors, histories: pa.Table) -> tuple[Rows, Scores]:
        """Rows and scores (q, k) for member vectors (q, d), whose histories go in the same order."""
        rows = np.full((len(queries), self.config.k), -1, dtype=np.int64)
        scores = np.full((len(queries), self.config.k), -np.inf, dtype=np.float32)
        seen = self._seen(histories) if self.config.exclude_seen else None
        for country, some in self._groups(histories):
            wanted = Filter(self._mask(country), seen).take(some)
            found = exact.top_k(self.vectors, queries[some], self.config.k, wanted)
            rows[some], scores[some] = found
        return rows, scores

    def _seen(self, histories: pa.Table) -> list[Rows]:
        lists = histories[TITLE_ID].combine_chunks()
        found = self.index.ids.rows(lists.flatten())
        ends = np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
        parts = np.split(found, ends[:-1]) if len(ends) else []
        return [part[part >= 0] for part in parts]

    def _groups(self, histories: pa.Table) -> list[CountryGroup]:
        """Members by the country of their last event that names one."""
        if not self.config.by_country:
            return [(None, np.arange(len(histories)))]
        lists = histories[COUNTRY].to_pylist()
        last = [next((value for value in reversed(values or []) if value), None) for values in lists]
        groups: dict[str | None, list[int]] = {}
        for row, country in enumerate(last):
            groups.setdefault(country, []).append(row)
        return [(country, np.array(some, dtype=np.int64)) for country, some in groups.items()]

    def _mask(self, country: str | None) -> Any:
        if country not in self.masks:
            self.masks[country] = allowed_titles(self.titles, country, self.config.max_maturity)
        return self.masks[country]

    def _table(self, members: pa.ChunkedArray, rows: Rows, scores: Scores) -> pa.Table:
        there = rows >= 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]), pa.int32())
        ids = self.index.ids.to_table()[TITLE_ID].combine_chunks().take(pa.array(rows[there]))
        lists = pa.ListArray.from_arrays(offsets, ids)
        return pa.table(
            {MEMBER_ID: members, TITLE_IDS: lists, SCORES: pa.ListArray.from_arrays(offsets, pa.array(scores[there]))}
        )
