"""Pairs of releases in one space: sampled titles, directions, cosines and exact neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.releases.release import Release
from stores.schema import EMBEDDING, MEMBER_ID, NAME, TITLE_ID
from validation.statistics import Floats, batches, matrix

Places = npt.NDArray[np.int64]
TINY = 1e-12


def cosines(x: Floats, y: Floats) -> Floats:
    """The cosine of each row of `x` with the same row of `y`; 0 where one of them is zero."""
    return np.asarray(np.einsum("ij,ij->i", unit_rows(x), unit_rows(y)))


def unit_rows(x: Floats) -> Floats:
    """Rows at length 1; zero rows stay zero."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY))


def nearest(x: Floats, rows: Places, k: int) -> Places:
    """The `k` rows nearest to each of `rows` by cosine, best first, the row itself left out; (len(rows), k)."""
    k = min(k, len(x) - 1)
    directions = unit_rows(x)
    out = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        scores = directions[part] @ directions.T
        scores[np.arange(len(part)), part] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        out[start : start + len(part)] = np.take_along_axis(best, order, axis=1)
    return out


def spread(count: int, wanted: int) -> Places:
    """At most `wanted` places spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


@dataclass(frozen=True)
class Titles:
    """Titles in both releases (or in one): ids and names, and rows of vectors and plays in that order."""

    ids: list[Any]
    names: list[str]
    vectors: Floats
    plays: Floats


@dataclass(frozen=True)
class Pair:
    """The same titles, and the same sampled members, before and now; widths are equal."""

    now: Titles
    before: Titles
    members_now: Floats
    members_before: Floats


def titles(release: Release) -> Titles:
    """All titles of a release, those with finite vectors."""
    table = release.table("titles", [TITLE_ID, NAME, EMBEDDING, "plays"])
    vectors = matrix(table[EMBEDDING].combine_chunks())
    good = np.isfinite(vectors).all(axis=1)
    table = table.filter(pa.array(good))
    ids = table[TITLE_ID].to_pylist()
    names = [name or str(title) for name, title in zip(table[NAME].to_pylist(), ids, strict=True)]
    plays = table["plays"].fill_null(0).to_numpy().astype(np.float64)
    return Titles(ids, names, vectors[good], plays)


def pair(release: Release, before: Release, sample: int) -> Pair | None:
    """What two releases have in common; None where their widths differ or they share fewer than two titles."""
    new, old = titles(release), titles(before)
    if new.vectors.shape[1] != old.vectors.shape[1]:
        return None
    at = {title: place for place, title in enumerate(old.ids)}
    here = np.array([place for place, title in enumerate(new.ids) if title in at], np.int64)
    there = np.array([at[new.ids[place]] for place in here], np.int64)
    if len(here) < 2:
        return None
    ids = _sampled_members(before, sample)
    members_now, members_before = _vectors_of(release, ids), _vectors_of(before, ids)
    both = np.isfinite(members_now).all(axis=1) & np.isfinite(members_before).all(axis=1)
    return Pair(_take(new, here), _take(old, there), members_now[both], members_before[both])


def _take(source: Titles, rows: Places) -> Titles:
    picked = rows.tolist()
    ids, names = [source.ids[i] for i in picked], [source.names[i] for i in picked]
    return Titles(ids, names, source.vectors[rows], source.plays[rows])


def _sampled_members(release: Release, wanted: int) -> list[Any]:
    """Ids at even places of every shard, about `wanted` in all."""
    paths = release.storage.files("members")
    each = max(1, wanted // max(1, len(paths)))
    ids: list[Any] = []
    for path in paths:
        column = release.read_table(path, [MEMBER_ID])[MEMBER_ID]
        if len(column):
            ids += column.take(pa.array(spread(len(column), each))).to_pylist()
    return ids[:wanted]


def _vectors_of(release: Release, ids: list[Any]) -> Floats:
    """The vectors of some members in the order of `ids`; NaN rows for those that are not there."""
    place = {member: row for row, member in enumerate(ids)}
    wanted = pa.array(ids)
    out: Floats | None = None
    for path in release.storage.files("members"):
        for batch in batches(release.storage, path, [MEMBER_ID, EMBEDDING]):
            kept = batch.filter(pc.is_in(batch.column(0), value_set=wanted.cast(batch.column(0).type)))
            vectors = matrix(kept.column(1))
            out = np.full((len(ids), vectors.shape[1]), np.nan) if out is None else out
            if len(vectors):
                out[[place[member] for member in kept.column(0).to_pylist()]] = vectors
    return out if out is not None else np.full((len(ids), 1), np.nan)
