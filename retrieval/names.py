"""A title by its id or its name, as a person types it."""

import difflib
from typing import Any

import pyarrow as pa

from retrieval.rows import as_id
from stores.columns import NAME, TITLE_ID
from stores.errors import NotFoundError, UsageError
from stores.terminal import one_line

_SHOWN = 10


def find_title(titles: pa.Table, text: Any) -> int:
    """The row of the title that is meant: by id, else by whole name, else by a part that one name has.

    Case does not matter. Raises UsageError, listing them, where several names match; NotFoundError, with
    names that are close, where none does.
    """
    row = _by_id(titles, text)
    if row is not None:
        return row
    names = [(name or "").casefold() for name in titles[NAME].to_pylist()]
    asked = str(text).strip().casefold()
    whole = [row for row, name in enumerate(names) if name and name == asked]
    matches = whole or [row for row, name in enumerate(names) if asked and asked in name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(
            f"{text!r} matches {len(matches)} titles", expected=_listed(titles, matches), fix="give the id"
        )
    close = difflib.get_close_matches(asked, sorted(set(names)), n=5)
    near = _listed(titles, [names.index(name) for name in close])
    raise NotFoundError(f"no title has the id or a name like {text!r}", expected=near or "an id or a name in titles/")


def _by_id(titles: pa.Table, text: Any) -> int | None:
    column = titles[TITLE_ID]
    try:
        row = column.index(pa.scalar(as_id(text, column.type), type=column.type)).as_py()
    except UsageError:  # not an id of this kind, so it is a name
        return None
    return row if row >= 0 else None


def _listed(titles: pa.Table, rows: list[int]) -> str:
    shown = [one_line(f"{titles[TITLE_ID][row]} {titles[NAME][row]}") for row in rows[:_SHOWN]]
    more = [f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "; ".join(shown + more)
