"""Advice for a table with too many refused rows: what is wrong with which column of which files, and the cure.

Raising the budget is advised only where refused rows are scattered. A column that is wrong in nearly every row of a
file is mended where it is written: a higher budget would drop it silently from then on.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.types as pat

from embeddings.histories import quarantine
from embeddings.histories.snapshot import Snapshot, TableInput
from stores.lake.contract import Lake
from stores.lake.scan import ROW_BITS
from stores.lake.tables import INTERACTIONS, TABLES, Kind

WHOLE_COLUMN_FRACTION = 0.9
"""From this share of a file's rows on, a column is wrong as a whole."""
SCATTERED_ROWS_FRACTION = 0.5
"""From this share of a table's rows on, no refusal is scattered."""
MAX_ACTIONS_SHOWN = 10
_MAX_IDS_SHOWN = 3
ReasonAndColumn = tuple[str, str]
"""Reason and column of refused rows."""


@dataclass(frozen=True)
class RefusalEvidence:
    """What is known of a table's refused rows: rows by file and group, stored types, values that were seen."""

    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of each file that were judged, those that do not count against the budget left out."""
    refused: Mapping[ReasonAndColumn, Mapping[str, int]] = field(default_factory=dict)
    """Refused rows by reason and column, by file."""
    stored: Mapping[str, Mapping[str, pa.DataType]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    """The type that the contract wants of each column."""
    actions: tuple[tuple[str, int], ...] = ()
    """Unknown actions with their rows, the most frequent first."""
    known_actions: tuple[str, ...] = ()
    ids: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """A few title ids that are not in titles, and a few that are."""

    def whole(self, group: ReasonAndColumn) -> bool:
        """Whether a group is nearly all of the files in which it occurs."""
        files = self.refused.get(group, {})
        return sum(files.values()) >= WHOLE_COLUMN_FRACTION * sum(self.rows.get(path, 0) for path in files) > 0


def collect_evidence(snapshot: Snapshot, table: TableInput, lake: Lake | None = None) -> RefusalEvidence:
    """The evidence of a judged table; reads it once more. Stored types are those of the lake's footers."""
    reasons, judged = snapshot.reasons[table.name], _judged_sql(snapshot, table)
    columns = " ".join(f"WHEN reason = {code} THEN '{one.column}'" for code, one in enumerate(reasons, 1) if one.column)
    sql = f"SELECT pos >> {ROW_BITS}, reason, CASE {columns} ELSE wrong END, count(*) FROM ({judged}) GROUP BY ALL"
    rows: Counter[str] = Counter()
    refused: dict[ReasonAndColumn, Counter[str]] = defaultdict(Counter)
    for number, code, column, count in snapshot.connection.execute(sql).fetchall():
        name, path = reasons[code - 1].name if code else "", table.files[number]
        if name not in quarantine.UNBUDGETED_REASONS:
            rows[path] += count
        if name and name not in quarantine.UNBUDGETED_REASONS:
            refused[name, column or ""][path] += count
    for file in table.broken:
        rows[file.path] += file.rows
        refused[file.reason, file.column][file.path] += file.rows
    files = lake.tables[table.name].files if lake is not None else ()
    wanted = {column.name: _wanted_type(column.kind, table.id_types.get(column.name)) for column in TABLES[table.name]}
    told = _count_actions(snapshot) if table.name == INTERACTIONS else ()
    ids = _unknown_ids(snapshot) if table.name == INTERACTIONS else ((), ())
    return RefusalEvidence(
        rows, refused, {file.path: file.types for file in files}, wanted, told, snapshot.config.actions, ids
    )


def _judged_sql(snapshot: Snapshot, table: TableInput) -> str:
    return snapshot._titles_sql if table is snapshot.titles else snapshot._interactions_sql


def _wanted_type(kind: Kind, id_type: pa.DataType | None) -> str:
    return str(id_type) if kind is Kind.ID and id_type is not None else kind.value


def _count_actions(snapshot: Snapshot) -> tuple[tuple[str, int], ...]:
    sql = (
        f"SELECT action, count(*) AS seen FROM ({_judged_sql(snapshot, snapshot.interactions)}) "
        "WHERE action IS NOT NULL AND action_code = 0 GROUP BY ALL ORDER BY seen DESC, action"
    )
    return tuple(snapshot.connection.execute(sql).fetchall())


def _unknown_ids(snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    strange = (
        f"SELECT DISTINCT CAST(title_id AS VARCHAR) FROM ({_judged_sql(snapshot, snapshot.interactions)}) "
        "WHERE title_id IS NOT NULL AND title_code IS NULL ORDER BY 1"
    )
    known = "SELECT CAST(title_id AS VARCHAR) FROM known ORDER BY title_code"
    found = [snapshot.connection.execute(f"{sql} LIMIT {_MAX_IDS_SHOWN}").fetchall() for sql in (strange, known)]
    return tuple(row[0] for row in found[0]), tuple(row[0] for row in found[1])


def advise(evidence: RefusalEvidence, counts: Mapping[str, int], share: float) -> str:
    """The cures of the most frequent reasons, and whether a higher budget is one."""
    groups = sorted(evidence.refused, key=lambda group: -sum(evidence.refused[group].values()))
    cures = list(dict.fromkeys(_cure(evidence, group) for group in groups[:3]))
    if counts.get(quarantine.DUPLICATE):
        cures.append("exact copies of events: see that no day is delivered twice, under another file name for example")
    scattered = share < SCATTERED_ROWS_FRACTION and not any(map(evidence.whole, groups))
    if scattered:
        cures.append("or, if these rows may be left out every night, raise histories.max_bad_fraction")
    return "; ".join(cures) or "mend the rows that are named here"


def _cure(evidence: RefusalEvidence, group: ReasonAndColumn) -> str:
    reason, column = group
    files = evidence.refused[group]
    place = next(iter(files)) if len(files) == 1 else f"{len(files):,} files"
    if reason == quarantine.WRONG_TYPE:
        return _retype(evidence, column, files)
    if reason in _WRITTEN_AGAIN:
        return f"write {place} again{f' with the column {column}' if column else ''}"
    if reason == "unknown action":
        return _name_actions(evidence)
    if reason == "unknown title" and all(evidence.ids):
        strange, known = (", ".join(map(repr, ids)) for ids in evidence.ids)
        return f"write the same ids into both tables: interactions name titles such as {strange}; titles has {known}"
    return _CURES.get(reason, f"mend {column or 'the rows'} in {place}")


_WRITTEN_AGAIN = quarantine.WHOLE_FILE_REASONS
_CURES = {
    quarantine.FUTURE: "see the time zone and the unit of event_time: times later than the night cannot have happened",
    "event before 1990": "see the unit of event_time (seconds read as milliseconds give 1970), "
    "or set histories.earliest if such times are true",
    "unknown title": "write the titles that are missing into titles/",
    "duplicate title": "write one row for each title into titles/, the latest",
    "negative duration": "see how duration_s is computed; leave it null where it is not known",
}


def _name_actions(evidence: RefusalEvidence) -> str:
    seen = ", ".join(f"{action!r} {count:,}" for action, count in evidence.actions[:MAX_ACTIONS_SHOWN])
    more = (
        f" and {len(evidence.actions) - MAX_ACTIONS_SHOWN:,} others"
        if len(evidence.actions) > MAX_ACTIONS_SHOWN
        else ""
    )
    known = ", ".join(evidence.known_actions)
    return (
        f"unknown actions seen: {seen}{more}; append yours to histories.actions, and to histories.watch_actions those "
        f"that count as a play, or write the known names ({known})"
    )


def _retype(evidence: RefusalEvidence, column: str, files: Mapping[str, int]) -> str:
    """Name the stored types of a column's refused cells, the one that is wanted, and how to write it."""
    by_type: dict[str, list[str]] = defaultdict(list)
    kinds = {path: evidence.stored.get(path, {}).get(column) for path in files}
    for path, stored in kinds.items():
        by_type["a folder's name" if stored is None else str(stored)].append(path)
    parts = [f"{name} in {paths[0] if len(paths) == 1 else f'{len(paths):,} files'}" for name, paths in by_type.items()]
    stored = next(iter(kinds.values()))
    wanted = evidence.kinds.get(column, "")
    return f"{column} is stored as {', '.join(parts)}; wanted is {wanted}: {_conversion_hint(stored, wanted)}"


def _conversion_hint(stored: pa.DataType | None, wanted: str) -> str:
    """How to write a column so that it has the wanted type."""
    if stored is not None and (pat.is_dictionary(stored) or pat.is_run_end_encoded(stored)):
        stored = stored.value_type
    if stored is None:
        return f"name the folders with values that are {wanted}"
    if _is_bytes(stored):
        return (
            "cast it to a string where it is written, and mark text as UTF-8 (Spark reads such files with "
            "spark.sql.parquet.binaryAsString, Impala writes the mark with PARQUET_ANNOTATE_STRINGS_UTF8)"
        )
    if wanted == Kind.TIME.value and not _is_text(stored):
        return "cast it to a timestamp in UTC; a plain number does not say whether it counts seconds or milliseconds"
    if wanted == Kind.TIME.value:
        return "write ISO 8601 text such as 2026-07-21T02:00:00Z, or a timestamp in UTC"
    if wanted.startswith("list"):
        return f"write {wanted}; a text that holds several values has to be split"
    if pat.is_duration(stored):
        return "write seconds as a float"
    if wanted == "int64":
        return "most rows have int64 ids: write whole numbers in every file, or every id of the lake as a string"
    return f"cast it to {wanted} where it is written"


def _is_bytes(stored: pa.DataType) -> bool:
    return bool(
        pat.is_binary(stored)
        or pat.is_large_binary(stored)
        or pat.is_fixed_size_binary(stored)
        or pat.is_binary_view(stored)
    )


def _is_text(stored: pa.DataType) -> bool:
    return bool(pat.is_string(stored) or pat.is_large_string(stored) or pat.is_string_view(stored))
