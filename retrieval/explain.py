"""Why a release is searched as it is: the trials of its indexes as rows, and the reason as a sentence."""

import sys
from typing import Any

from retrieval.index_metadata import FILE, IndexFolderMetadata, StoredIndex
from stores.errors import NotFoundError
from stores.releases.release import Release

INDEX_FOLDER = "index"


def read_metadata(release: Release) -> IndexFolderMetadata:
    """What was measured when a release's indexes were built. Raises NotFoundError where it has none."""
    path = f"{INDEX_FOLDER}/{FILE}"
    if not release.storage.exists(path):
        raise NotFoundError(f"release {release.release_id} has no index", where=release.storage.uri)
    return IndexFolderMetadata.parse(release.storage.read(path), path)


def trial_rows(index: StoredIndex) -> list[dict[str, Any]]:
    """One row per trial in the order in which they were made; the chosen one is marked."""
    return [
        {
            "type": trial.backend,
            "effort": trial.search_effort,
            "titles": trial.titles,
            f"recall@{trial.recall.k}" if trial.recall else "recall": trial.recall.value if trial.recall else None,
            "low": trial.recall.low if trial.recall else None,
            "high": trial.recall.high if trial.recall else None,
            "queries/s": trial.queries_per_second,
            "build s": trial.build_seconds,
            "chosen": "<--" if trial.chosen else "",
        }
        for trial in index.trials
    ]


def slice_rows(index: StoredIndex) -> list[dict[str, Any]]:
    """Recall of the whole and of each kind of query that was looked at by itself."""
    whole = {"all": index.recall} if index.recall else {}
    return [
        {"queries": name, "recall": recall.value, "low": recall.low, "high": recall.high, "count": recall.queries}
        for name, recall in {**whole, **index.slices}.items()
    ]


def explain_choice(index: StoredIndex) -> str:
    """Why this type, in one sentence, from what was measured."""
    tried = {trial.backend for trial in index.trials}
    if index.recall is None:
        return f"{index.backend}, because there was no member to measure with"
    said = f"recall@{index.recall.k} {index.recall.value:.4f} ({index.recall.low:.4f} to {index.recall.high:.4f})"
    if tried == {"flat"} and index.backend == "flat":
        return f"flat: {index.titles:,} titles are few enough to be compared one by one; {said}"
    if index.backend == "flat":
        return f"flat: nothing that reached the target was faster than comparing all {index.titles:,} titles; {said}"
    limits = [f"filters that allow less than {index.min_filter_share:.0%}"]
    if index.max_exact_k < sys.maxsize:
        limits.append(f"more than {index.max_exact_k} titles at once")
    return (
        f"{index.backend} with search effort {index.search_effort}: the fastest of {len(tried)} types that reached "
        "the target; "
        f"{said}; {' and '.join(limits)} are searched exactly"
    )
