"""The quarantine: SQL that gives every row of the lake either no reason or the first that refuses it.

Reasons have stable names: reports, tests and people's queries over the dead letter rely on them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stores.errors import ContractError
from stores.lake.parquet_files import AMBIGUOUS, MISSING_COLUMN, UNREADABLE
from stores.lake.scan import sql_literal

WRONG_TYPE = "wrong type"
FUTURE = "event in the future"
AFTER_AS_OF = "after as_of"
DUPLICATE = "duplicate"
ERASED = "erased member"
UNBUDGETED_REASONS = (AFTER_AS_OF, ERASED)
"""Reasons that are no fault of the lake: they never count against the budget, and their rows are not listed."""
WHOLE_FILE_REASONS = (UNREADABLE, MISSING_COLUMN, AMBIGUOUS)
MAX_EXAMPLES = 5
SHOWN_LETTERS = 80
ERASED_MEMBERS = "erased_members"
"""The table of the snapshot with the ids of the suppression list that occur in the lake."""


@dataclass(frozen=True)
class RejectionReason:
    """Why a row is refused: its name, the column, the SQL condition, and the SQL of the value to show.

    An empty column means that the row itself says which (`wrong`, `wrong_value` of `scan.rows_sql`).
    """

    name: str
    column: str
    condition: str
    value_sql: str


_WRONG_TYPE_REASON = RejectionReason(WRONG_TYPE, "", "wrong IS NOT NULL", "wrong_value")


def _null_reason(column: str) -> RejectionReason:
    return RejectionReason(f"{column} is null", column, f"{column} IS NULL", "NULL")


def _time_reason(name: str, condition: str) -> RejectionReason:
    """A time may lie beyond DuckDB's calendar, which has no text for it."""
    written = "coalesce(TRY(CAST(make_timestamp(event_time) AS VARCHAR)), event_time || ' microseconds since 1970')"
    return RejectionReason(name, "event_time", condition, written)


def interaction_reasons(as_of: datetime, now: datetime, earliest: datetime) -> tuple[RejectionReason, ...]:
    """Reasons for rows that also have `action_code` (0 = unknown) and `title_code` (NULL = not in titles).

    A row later than both the snapshot and the night itself is a fault, "event in the future". One that
    is only later than the snapshot is what a rerun of a past night sees all the time: it is refused as
    "after as_of", before anything else is judged, and never counts against the budget.
    """
    seen, clock, first = micros(as_of), micros(now), micros(earliest)
    duration = "CAST(duration_s AS VARCHAR)"
    return (
        RejectionReason(ERASED, "member_id", f"member_id IN (SELECT member_id FROM {ERASED_MEMBERS})", "NULL"),
        _time_reason(FUTURE, f"event_time > {max(seen, clock)}"),
        _time_reason(AFTER_AS_OF, f"event_time > {seen}"),
        _WRONG_TYPE_REASON,
        _null_reason("member_id"),
        _null_reason("title_id"),
        _null_reason("event_time"),
        _null_reason("action"),
        RejectionReason("unknown action", "action", "action_code = 0", "action"),
        _time_reason("event before 1990", f"event_time < {first}"),
        RejectionReason("negative duration", "duration_s", "duration_s < 0", duration),
        RejectionReason("unknown title", "title_id", "title_code IS NULL", "CAST(title_id AS VARCHAR)"),
    )


def title_reasons() -> tuple[RejectionReason, ...]:
    """Reasons for rows that also have `copy`, the number of earlier rows of the same title."""
    return (
        _WRONG_TYPE_REASON,
        _null_reason("title_id"),
        RejectionReason("duplicate title", "title_id", "copy > 0", "CAST(title_id AS VARCHAR)"),
    )


def with_reason_sql(rows: str, reasons: tuple[RejectionReason, ...]) -> str:
    """The rows with `reason`: 0 for a clean row, else 1 + the place of the first reason that holds."""
    whens = " ".join(f"WHEN {reason.condition} THEN {code}" for code, reason in enumerate(reasons, 1))
    return f"SELECT *, CAST(CASE {whens} ELSE 0 END AS UTINYINT) AS reason FROM ({rows})"


def rejected_rows_sql(judged: str, reasons: tuple[RejectionReason, ...], listed: int) -> str:
    """The first `listed` refused rows of each reason: `pos`, `column`, `value`, `reason` by name.

    Rows "after as_of" are left out: they can be most of the lake, and their count says enough. So are those of
    erased members, of whom nothing is kept.
    """
    cases: dict[str, list[str]] = {"column": [], "value": [], "reason": []}
    for code, reason in enumerate(reasons, 1):
        when = f"WHEN reason = {code} THEN"
        cases["column"].append(f"{when} {sql_literal(reason.column) if reason.column else 'wrong'}")
        cases["value"].append(f"{when} {reason.value_sql}")
        cases["reason"].append(f"{when} {sql_literal(reason.name)}")
    picked = ", ".join(f'CASE {" ".join(whens)} END AS "{column}"' for column, whens in cases.items())
    left_out = [str(code) for code, reason in enumerate(reasons, 1) if reason.name in UNBUDGETED_REASONS]
    refused = (
        f"SELECT pos, reason AS code, {picked} FROM ({judged}) WHERE reason NOT IN ({', '.join(['0', *left_out])})"
    )
    return (
        f'SELECT pos, "column", value, reason FROM ({refused}) '
        f"QUALIFY row_number() OVER (PARTITION BY code ORDER BY pos) <= {listed} ORDER BY pos"
    )


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a moment with a time zone."""
    return round(moment.timestamp() * 1_000_000)


def count_bad_rows(counts: Mapping[str, int]) -> int:
    """Refused rows that count against the budget."""
    return sum(count for reason, count in counts.items() if reason not in UNBUDGETED_REASONS)


def bad_fraction(counts: Mapping[str, int], rows: int) -> float:
    """Share of bad rows among those of the snapshot; `rows` is everything read, uncounted rows included."""
    return count_bad_rows(counts) / max(rows - sum(counts.get(reason, 0) for reason in UNBUDGETED_REASONS), 1)


def check_budget(
    table: str,
    counts: Mapping[str, int],
    rows: int,
    allowed: float,
    letters: list[dict[str, Any]],
    advise: Callable[[], str] | None = None,
) -> None:
    """Raise ContractError where the share of bad rows is above `allowed`; the message names some of `letters`.

    `advise` gives the cure (`embeddings.histories.refusal_advice`), which takes time to find and is asked for only
    then.
    """
    share = bad_fraction(counts, rows)
    if share <= allowed:
        return
    listed = sorted(counts.items(), key=lambda item: -item[1])
    by_reason = ", ".join(f"{reason}: {count:,}" for reason, count in listed if reason not in UNBUDGETED_REASONS)
    shown = _of_each_reason([letter for letter in letters if letter["reason"] not in UNBUDGETED_REASONS])
    raise ContractError(
        f"{table}: {count_bad_rows(counts):,} of {rows:,} rows break the contract ({share:.1%}): {by_reason}",
        where="; ".join(map(_example, shown)),
        expected=f"at most {allowed:.1%} bad rows (histories.max_bad_fraction)",
        fix=advise() if advise else "mend the rows named here where they are written",
    )


def _of_each_reason(letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few letters in their order, at least one of each of the first reasons."""
    turns: dict[str, int] = {}
    places = []
    for place, letter in enumerate(letters):
        turns[letter["reason"]] = turns.get(letter["reason"], 0) + 1
        places.append((turns[letter["reason"]], place))
    return [letters[place] for _, place in sorted(sorted(places)[:MAX_EXAMPLES], key=lambda item: item[1])]


def _example(letter: dict[str, Any]) -> str:
    if letter["row"] < 0:
        return f"{letter['source']}: {letter['value']} ({letter['reason']})"
    cell = f"{letter['column'] or 'row'} = {_short(letter['value'])}"
    return f"{letter['source']} row {letter['row']}: {cell} ({letter['reason']})"


def _short(value: str | None) -> str:
    """A value as Python writes it, so that no control character reaches a terminal, at most 80 letters long."""
    shown = repr(value)
    return shown if len(shown) <= SHOWN_LETTERS else f"{shown[:SHOWN_LETTERS]}… ({len(value or ''):,} characters)"
