"""Canaries: after publishing, a frozen few members and titles are read back the way consumers read them.

The readers are handed over (`stores.feast.online_store`, `retrieval.release_reader`), because neither Feast nor FAISS
lives here. The probe set is frozen by a hash of the ids, the same share of every shard, so that the
same members are asked night after night and a shard that was lost is noticed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.releases.release import Release
from stores.schema import EMBEDDING, MEMBER_ID, TITLE_ID
from validation.checks import Expectation, few
from validation.config import ReadbackThresholds
from validation.release_pairs import TINY, spread
from validation.statistics import matrix
from validation.suites import Suite

Row = tuple[npt.NDArray[np.float32] | None, str | None]
ReadOnline = Callable[[str, list[Any]], list[Row]]
Search = Callable[[npt.NDArray[np.float32], int], tuple[list[list[Any]], npt.NDArray[np.float32]]]
KEYS = {"members": MEMBER_ID, "titles": TITLE_ID}


@dataclass(frozen=True)
class ConsumerReaders:
    """How consumers read: online rows of a folder's ids, and the candidates index."""

    online: ReadOnline
    search: Search


def readback_suite(release: Release, readers: ConsumerReaders, thresholds: ReadbackThresholds) -> Suite:
    """Read the probe set back and compare it with the release's files; a reader that fails leaves its figure absent."""
    figures: dict[str, Any] = {}
    expected = []
    probes = {folder: probe_set(release, folder, thresholds.probes) for folder in KEYS}
    for folder, probe in probes.items():
        name = f"{folder} read from Feast are the published ones"
        column, reason = f"{folder}_equal_share", thresholds.why("min_equal_share")
        figures[column], found = _attempt(partial(_equal_share, folder, probe, readers))
        minimum = thresholds.min_equal_share
        facts: dict[str, Any] = {
            "finding": f"{{:.1%}} of the {folder} read back are the published ones",
            "reason": reason,
        }
        expected.append(Expectation(name=name, column=column, minimum=minimum, examples=few(found), **facts))
    figures["score_error"], found = _attempt(
        partial(_score_error, release, probes["members"], readers, thresholds.found)
    )
    expected.append(
        Expectation(
            name="FAISS scores are inner products of the published vectors",
            column="score_error",
            maximum=thresholds.max_score_error,
            reason=thresholds.why("max_score_error"),
            finding="the largest error of a score is {:.4g} of the product of the lengths",
            examples=few(found),
        )
    )
    return figures, expected


def probe_set(release: Release, folder: str, wanted: int) -> pa.Table:
    """About `wanted` rows of a folder, those of each shard whose ids have the smallest hashes; id and vector.

    Where there are more shards than that, one row of each of so many shards.
    """
    key, paths = KEYS[folder], release.storage.files(folder)
    paths = [paths[place] for place in spread(len(paths), wanted)]
    each, tables = -(-wanted // max(len(paths), 1)), []
    for path in paths:
        ids = release.read_table(path, [key])[key]
        chosen = nsmallest(each, ids.to_pylist(), key=lambda entity: (crc32(str(entity).encode()), str(entity)))
        table = release.read_table(path, [key, EMBEDDING])
        tables.append(table.filter(pc.is_in(table[key], value_set=pa.array(chosen, ids.type))))
    return pa.concat_tables(tables).rename_columns(["id", EMBEDDING])


def _attempt(read: Callable[[], tuple[float, list[str]]]) -> tuple[float | None, list[str]]:
    """What a consumer would see; whatever a store raises is an answer too."""
    try:
        return read()
    except Exception as error:
        return None, [f"{type(error).__name__}: {error}"]


def _equal_share(folder: str, probe: pa.Table, readers: ConsumerReaders) -> tuple[float, list[str]]:
    """The share of rows that are served bit for bit, and those that are not."""
    ids = probe["id"].to_pylist()
    vectors = matrix(probe[EMBEDDING].combine_chunks()).astype(np.float32)
    wrong = [
        f"{folder} {entity}: {fault}"
        for entity, vector, row in zip(ids, vectors, readers.online(folder, ids), strict=True)
        if (fault := _fault(row, vector))
    ]
    return 1 - len(wrong) / max(len(ids), 1), wrong


def _fault(served: Row, vector: npt.NDArray[np.float32]) -> str:
    """What is wrong with a row; its release may be any earlier one, in which the same vector was first published."""
    found, release_id = served
    if found is None:
        return "nothing is served"
    if found.tobytes() != vector.tobytes():
        return f"another vector is served, of release {release_id}"
    return ""


def _score_error(release: Release, members: pa.Table, readers: ConsumerReaders, k: int) -> tuple[float, list[str]]:
    """The largest difference between a score found and the inner product, as a share of the lengths' product."""
    queries = matrix(members[EMBEDDING].combine_chunks()).astype(np.float32)
    titles = release.table("titles", [TITLE_ID, EMBEDDING])
    k = min(k, titles.num_rows)
    found, scores = readers.search(queries, k)
    places = dict(zip(titles[TITLE_ID].to_pylist(), range(titles.num_rows), strict=True))
    vectors = matrix(titles[EMBEDDING].combine_chunks())
    worst, wrong = 0.0, []
    for member, query, ids, row in zip(members["id"].to_pylist(), queries, found, scores, strict=True):
        if not ids or any(title not in places for title in ids):
            return float("inf"), [f"member {member}: found {ids or 'nothing'}, which are no titles of this release"]
        there = vectors[[places[title] for title in ids]]
        size = np.linalg.norm(query) * np.linalg.norm(there, axis=1)
        error = np.abs(there @ query - row[: len(ids)]) / np.maximum(size, TINY)
        if error.max() > worst:
            worst, wrong = float(error.max()), [f"member {member}, title {ids[int(error.argmax())]}"]
    return worst, wrong
