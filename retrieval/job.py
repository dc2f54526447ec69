"""The index stage of a night: two FAISS indexes of the release's titles, judged on its members' vectors.

Every title of the release is in both, played or not, so that new titles can be found from their first night.
"""

from typing import Any

import numpy as np

from retrieval import files, slices
from retrieval.card import FILE, FolderCard, StoredIndex
from retrieval.config import Metric, RetrievalConfig
from retrieval.index import TitleIndex
from retrieval.rows import embeddings, origin_of
from retrieval.vectors import Vectors
from stores.columns import EMBEDDING, TITLE_ID
from stores.errors import MismatchError
from stores.release import Release, StageReport

INDEXES: dict[str, Metric] = {"candidates": "ip", "similar": "cosine"}
FOLDER = "index"


def run(config: RetrievalConfig, release: Release) -> StageReport:
    """Build, measure and write `index/`; what is there with the right hash and origin is kept.

    `candidates.faiss` holds the published vectors, `similar.faiss` the same at unit length (zero vectors
    stay zero); both are searched by inner product, rows are those of `ids.parquet`.
    Raises CorruptError where title vectors are missing or not finite, MismatchError where members have another width.
    """
    card = _finished(release)
    if card is None:
        packed = files.pack(_build(config, release))
        for name, data in packed.items():
            rows = 0 if name == FILE else _titles(release)
            release.write_bytes(f"{FOLDER}/{name}", data, rows)
        card = FolderCard.parse(packed[FILE].to_pybytes(), f"{FOLDER}/{FILE}")
    metrics = {name: _metrics(stored) for name, stored in card.indexes.items()}
    return StageReport(name="index", rows=next(iter(card.indexes.values())).titles, metrics=metrics)


def _finished(release: Release) -> FolderCard | None:
    """The card of indexes that are complete and were built from this release's titles."""
    names = [files.IDS, *(f"{name}.faiss" for name in INDEXES), FILE]
    if not all(release.finished(f"{FOLDER}/{name}") for name in names):
        return None
    card = FolderCard.parse(release.storage.read(f"{FOLDER}/{FILE}"), f"{FOLDER}/{FILE}")
    return card if card.origin == origin_of(release) else None


def _titles(release: Release) -> int:
    return int(release.titles().count_rows())


def _build(config: RetrievalConfig, release: Release) -> dict[str, TitleIndex]:
    titles = release.table("titles", [TITLE_ID, EMBEDDING, slices.PLAYS])
    vectors = embeddings(titles, "titles")
    guides = config.guides if len(titles) > config.exact_below else 0
    queries = sample_members(release, config.queries + guides, config.seed)
    judges = None if queries is None else queries[-config.queries :]
    if queries is not None and queries.shape[1] != vectors.shape[1]:
        raise MismatchError(f"members have {queries.shape[1]} dimensions, titles {vectors.shape[1]}")
    built: dict[str, TitleIndex] = {}
    for name, metric in INDEXES.items():
        index = TitleIndex.build(titles[TITLE_ID], vectors, queries, config.index(metric), origin_of(release))
        built[name] = index.with_slices(slices.measure(index, titles, judges, config))
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
        found.append(embeddings(release.read_table(paths[place], [EMBEDDING]), paths[place]))
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
        "effort": stored.effort,
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
