"""Are the ids of a table of vectors those of the snapshot? Compared one shard at a time, by DuckDB where they differ.

A member's history and vector are in shards of the same number, so counting shard by shard is exact
and needs the memory of one shard.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stores.lake.scan import require_directory
from stores.releases.release import Release
from stores.schema import HISTORY_HASH, MEMBER_ID, RELEASE_ID, TITLE_ID

CATALOGUE = "work/catalogue.parquet"
_COUNT = """
SELECT (SELECT count(*) FROM expected), (SELECT count(*) FROM found), (SELECT count(DISTINCT id) FROM found),
       (SELECT count(*) FROM found WHERE id IS NULL), (SELECT count(*) FROM found WHERE release_id = $release)
"""
_COUNTS = ("expected", "found", "distinct", "null", "fresh")
_FAULTS = {
    "missing": "SELECT id FROM expected ANTI JOIN found USING (id)",
    "unknown": "SELECT id FROM found ANTI JOIN expected USING (id)",
    "twice": "SELECT id FROM found GROUP BY id HAVING count(*) > 1",
    "other": "SELECT f.id FROM found f JOIN expected e USING (id) WHERE f.mark IS DISTINCT FROM e.mark",
}
_EXAMPLES = 5


class Coverage:
    """Counts of ids expected and found so far, and a few ids of each fault."""

    def __init__(self, release_id: str) -> None:
        self.release_id = release_id
        self.counts = dict.fromkeys((*_COUNTS, *_FAULTS), 0)
        self.examples: dict[str, list[str]] = {name: [] for name in _FAULTS}

    def add(self, expected: pa.Table, found: pa.Table) -> None:
        """Compare one shard: both tables have `id` and `mark`, `found` also `release_id`."""
        if _alike(expected, found):
            fresh = pc.sum(pc.equal(found[RELEASE_ID], self.release_id)).as_py() or 0
            rows = found.num_rows
            for name, count in zip(_COUNTS, (rows, rows, rows, 0, fresh), strict=True):
                self.counts[name] += count
        else:
            self._add_joined(expected, found)

    def _add_joined(self, expected: pa.Table, found: pa.Table) -> None:
        import duckdb

        require_directory()
        with duckdb.connect(config={"threads": 1, "enable_external_access": False}) as connection:
            connection.register("expected", expected)
            connection.register("found", found)
            row = connection.execute(_COUNT, {"release": self.release_id}).fetchone() or (0,) * len(_COUNTS)
            for name, count in zip(_COUNTS, row, strict=True):
                self.counts[name] += int(count)
            for name, query in _FAULTS.items():
                count = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
                self.counts[name] += int(count[0]) if count else 0
                room = _EXAMPLES - len(self.examples[name])
                self.examples[name] += [str(r[0]) for r in connection.execute(f"{query} LIMIT {room}").fetchall()]

    def figures(self) -> dict[str, Any]:
        """The counts as shares; None where there is nothing to divide by."""
        expected, found = self.counts["expected"], self.counts["found"]
        known = found - self.counts["unknown"]
        return {
            "expected": expected,
            "repeated_ids": found - self.counts["distinct"] - self.counts["null"],
            "null_ids": self.counts["null"],
            "coverage": 1 - self.counts["missing"] / expected if expected else None,
            "unknown_ids": self.counts["unknown"],
            "fresh_share": self.counts["fresh"] / found if found else None,
            "agreement": 1 - self.counts["other"] / known if known > 0 else None,
            "id_examples": self.examples,
        }


def _alike(expected: pa.Table, found: pa.Table) -> bool:
    """Whether both have the same distinct ids with the same marks in the same order, as a night without a fault has."""
    ids: pa.ChunkedArray = found["id"]
    same = expected["id"].equals(ids) and expected["mark"].equals(found["mark"])
    return same and not ids.null_count and pc.count_distinct(ids).as_py() == len(ids)


def of_members(release: Release) -> Coverage:
    """Vectors of members against the histories of the same shard; the mark is the history's hash."""
    coverage = Coverage(release.release_id)
    columns = [MEMBER_ID, HISTORY_HASH]
    for expected, found in _pairs(release, "histories", "members"):
        left = _read(release, expected, columns).rename_columns(["id", "mark"])
        right = _read(release, found, [*columns, RELEASE_ID], like=left)
        coverage.add(left, right.rename_columns(["id", "mark", RELEASE_ID]))
    return coverage


def of_titles(release: Release) -> Coverage:
    """Vectors of titles against the catalogue of the night; the mark is the title's name."""
    coverage = Coverage(release.release_id)
    columns = [TITLE_ID, "name"]
    left = _read(release, CATALOGUE, columns).rename_columns(["id", "mark"])
    left = _with_text_mark(left)
    shards = [_read(release, path, [*columns, RELEASE_ID], like=left) for path in release.storage.files("titles")]
    right = pa.concat_tables(shards) if shards else _nothing(left)
    coverage.add(left, _with_text_mark(right.rename_columns(["id", "mark", RELEASE_ID])))
    return coverage


def _with_text_mark(table: pa.Table) -> pa.Table:
    """A title without a name has the mark "", so that it can agree with itself."""
    mark = table["mark"].cast(pa.string()).combine_chunks().fill_null("")
    return table.set_column(table.schema.get_field_index("mark"), "mark", mark)


def _pairs(release: Release, left: str, right: str) -> Iterator[tuple[str, str]]:
    """Paths of the shards of two folders with the same number; either may not be there."""
    names = {path.rsplit("/", 1)[-1] for folder in (left, right) for path in release.storage.files(folder)}
    for name in sorted(name for name in names if name.endswith(".parquet")):
        yield f"{left}/{name}", f"{right}/{name}"


def _read(release: Release, path: str, columns: list[str], like: pa.Table | None = None) -> pa.Table:
    """A shard's columns; a missing shard has no rows, and ids of the kind of `like`."""
    if release.storage.exists(path):
        return release.read_table(path, columns)
    if like is not None and like.num_rows:
        return _nothing(like)
    return pa.table({name: pa.array([], pa.string()) for name in columns})


def _nothing(like: pa.Table) -> pa.Table:
    kinds = {"id": like.schema.field("id").type, "mark": pa.string(), RELEASE_ID: pa.string()}
    return pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
