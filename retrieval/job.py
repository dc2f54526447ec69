"""The index stage of a night: two FAISS indexes of the release's titles, judged on its members' vectors.

Every title of the release is in both, played or not, so that new titles can be found from their first night.
"""

from typing import Any

import numpy as np

from retrieval import index as index_module
from retrieval import slices
from retrieval.config import Metric, RetrievalConfig
from retrieval.index import TitleIndex
from retrieval.index_metadata import FILE, IndexFolderMetadata, StoredIndex
from retrieval.release_reader import origin_of, read_embeddings
from retrieval.vectors import Vectors
from stores.errors import MismatchError
from stores.releases.release import Release, StageReport
from stores.schema import EMBEDDING, TITLE_ID

INDEXES: dict[str, Metric] = {"candidates": "ip", "similar": "cosine"}
INDEX_FOLDER = "index"


def run(config: RetrievalConfig, release: Release) -> StageReport:
    """Build, measure and write `index/`; what is there with the right hash and origin is kept.

    `candidates.faiss` holds the published vectors, `similar.faiss` the same at unit length (zero vectors
    stay zero); both are searched by inner product, rows are those of `ids.parquet`.
    Raises CorruptError where title vectors are missing or not finite, MismatchError where members have another width.
    """
    card = _completed_metadata(release)
    if card is None:
        packed = index_module.serialize_indexes(_build(config, release))
        for name, data in packed.items():
            rows = 0 if name == FILE else _titles(release)
            release.write_bytes(f"{INDEX_FOLDER}/{name}", data, rows)
        card = IndexFolderMetadata.parse(packed[FILE].to_pybytes(), f"{INDEX_FOLDER}/{FILE}")
    metrics = {name: _metrics(stored) for name, stored in card.indexes.items()}
    return StageReport(name="index", rows=next(iter(card.indexes.values())).titles, metrics=metrics)


def _completed_metadata(release: Release) -> IndexFolderMetadata | None:
    """The card of indexes that are complete and were built from this release's titles."""
    names = [index_module.IDS_FILE, *(f"{name}.faiss" for name in INDEXES), FILE]
    if not all(release.completed_file(f"{INDEX_FOLDER}/{name}") for name in names):
        return None
    card = IndexFolderMetadata.parse(release.storage.read(f"{INDEX_FOLDER}/{FILE}"), f"{INDEX_FOLDER}/{FILE}")
    return card if card.origin == origin_of(release) else None


def _titles(release: Release) -> int:
    return int(release.titles().count_rows())


def _build(config: RetrievalConfig, release: Release) -> dict[str, TitleIndex]:
    titles = release.table("titles", [TITLE_ID, EMBEDDING, slices.PLAYS_COLUMN])
    vectors = read_embeddings(titles, "titles")
    guides = config.train_queries if len(titles) > config.exact_below else 0
    queries = sample_members(release, config.queries + guides, config.seed)
    judges = None if queries is None else queries[-config.queries :]
    if queries is not None and queries.shape[1] != vectors.shape[1]:
        raise MismatchError(f"members have {queries.shape[1]} dimensions, titles {vectors.shape[1]}")
    built: dict[str, TitleIndex] = {}
    for name, metric in INDEXES.items():
        index = TitleIndex.build(titles[TITLE_ID], vectors, queries, config.index(metric), origin_of(release))
        built[name] = index.with_slice_recall(slices.measure_slices(index, titles, judges, config))
    return built


def sample_members(release: Release, count: int, seed: int) -> Vectors | None:
    """Up to `count` member vectors (q, d), None where the release has no member.

    A shard is a random part of the members, because it is chosen by a hash of the id: whole shards are read
    in a random order until they hold enough, so that the time does not grow with the members.
    """
    generator = np.random.default_rng(seed)
    paths = release.storage.files("members")
    found: list[Vectors] = []
    for place in generator.permutation(len(paths)):
        found.append(read_embeddings(release.read_table(paths[place], [EMBEDDING]), paths[place]))
        if sum(map(len, found)) >= count:
            break
    if not sum(map(len, found)):
        return None
    vectors = np.concatenate(found)
    return vectors[np.sort(generator.choice(len(vectors), min(count, len(vectors)), replace=False))]


def _metrics(stored: StoredIndex) -> dict[str, Any]:
    recall = stored.recall
    return {
        "backend": stored.backend,
        "search_effort": stored.search_effort,
        "metric": stored.metric,
        "titles": stored.titles,
        "bytes": stored.file.bytes,
        "recall": recall.value if recall else None,
        "recall_low": recall.low if recall else None,
        "recall_high": recall.high if recall else None,
        "recall_at": recall.k if recall else None,
        "queries": recall.queries if recall else 0,
        "queries_per_second": stored.queries_per_second,
        "slices": {name: part.model_dump() for name, part in stored.slices.items()},
        "trials": [trial.model_dump() for trial in stored.trials],
    }
