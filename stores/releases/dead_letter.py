"""The dead letter: every refused row with the file it came from, its place there, and the reason.

Row −1 stands for more than one row: a whole file that could not be read, or the rest of a reason that
has too many rows to list. Its value then begins with the number of rows, as in `1200 rows: …`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stores.releases.release import Release
from stores.schema import VALUE, dead_letter_schema

DEAD_LETTER_FOLDER = "dead_letter"
MANY_ROWS = -1
_KEY = ["reason", "source", "column"]


def rejected_row(source: str, row: int, column: str, value: str | None, reason: str) -> dict[str, Any]:
    """One refused row."""
    return {"source": source, "row": row, "column": column, "value": value, "reason": reason}


def rejected_summary(source: str, rows: int, column: str, detail: str, reason: str) -> dict[str, Any]:
    """Several refused rows in one letter."""
    return rejected_row(source, MANY_ROWS, column, f"{rows} rows: {detail}", reason)


def rejected_table(letters: list[dict[str, Any]]) -> pa.Table:
    """Letters as a table of `columns.dead_letter_schema`."""
    return pa.Table.from_pylist(letters, schema=dead_letter_schema())


def write_dead_letter(release: Release, name: str, letters: pa.Table) -> None:
    """Write `dead_letter/<name>.parquet`, columns of `columns.dead_letter_schema`.

    Without letters nothing is written, unless an earlier attempt of the same night left some.
    """
    path = f"{DEAD_LETTER_FOLDER}/{name}.parquet"
    if letters.num_rows or release.storage.exists(path):
        release.write_table(path, letters.cast(dead_letter_schema()))


def count_by_reason(release: Release) -> dict[str, int]:
    """Refused rows of a release by reason, the most frequent first; letters that stand for many count as many."""
    counts: Counter[str] = Counter()
    for table in release.batches(DEAD_LETTER_FOLDER, ["row", "value", "reason"]):
        counts.update(count_rows_by_reason(table))
    return dict(counts.most_common())


def group_release(release: Release, examples: int = 3) -> list[dict[str, Any]]:
    """Refused rows of a release by reason, source and column, the most frequent first.

    Each has `reason`, `source`, `column`, `rows`, and `examples`: a few `{row, value}` as they were refused.
    Reads one file of letters at a time.
    """
    return group_tables(release.batches(DEAD_LETTER_FOLDER, dead_letter_schema().names), examples)


def group_tables(tables: Iterable[pa.Table], examples: int = 3) -> list[dict[str, Any]]:
    """The same of tables of letters."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for table in tables:
        for key, part in _group_by_kind(table):
            group = found.setdefault(key, {**dict(zip(_KEY, key, strict=True)), "rows": 0, "examples": []})
            group["rows"] += sum(count_rows_by_reason(part).values())
            room = max(0, examples - len(group["examples"]))
            group["examples"] += part.select(["row", VALUE]).slice(0, room).to_pylist()
    return sorted(found.values(), key=lambda group: (-group["rows"], *(group[name] for name in _KEY)))


def _group_by_kind(letters: pa.Table) -> Iterator[tuple[tuple[str, str, str], pa.Table]]:
    """The letters of each reason, source and column."""
    for kind in letters.group_by(_KEY).aggregate([]).to_pylist():
        same = [pc.equal(letters[name], kind[name]).fill_null(kind[name] is None) for name in _KEY]
        chosen = pc.and_(pc.and_(same[0], same[1]), same[2])
        yield (kind["reason"], kind["source"], kind["column"]), letters.filter(chosen)


def count_rows_by_reason(letters: pa.Table) -> Counter[str]:
    """Refused rows by reason in a table of letters."""
    single = letters.filter(pc.not_equal(letters["row"], MANY_ROWS))
    tally = pc.value_counts(single["reason"].combine_chunks())
    counts = Counter({entry["values"]: entry["counts"] for entry in tally.to_pylist()})
    for entry in letters.filter(pc.equal(letters["row"], MANY_ROWS)).to_pylist():
        counts[entry["reason"]] += _row_count(entry["value"])
    return counts


def _row_count(value: str | None) -> int:
    """The number at the head of a letter that stands for many; 1 where another writer left none."""
    number = (value or "").partition(" ")[0]
    return int(number) if number.isdecimal() else 1
