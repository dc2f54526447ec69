"""Look up titles for a member and titles like a title in one release, as the command line does.

Loads FAISS, NumPy and Arrow only, because a command that looks should answer at once.
"""

import difflib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arguments import as_country, as_flag, as_maturity
from retrieval.index import TitleIndex
from retrieval.release_reader import as_id, find_row, id_type, origin_of, read_embeddings
from retrieval.vectors import Mask
from stores.errors import MismatchError, NotFoundError, UsageError
from stores.releases.release import Release
from stores.schema import EMBEDDING, MEMBER_ID, NAME, TITLE_ID
from stores.terminal import one_line

AVAILABLE_COUNTRIES = "available_countries"
MATURITY = "maturity"
_SHOWN = 40
"""Countries that an error names."""


def candidates(
    release: Release,
    member_id: Any,
    k: int = 10,
    exclude_seen: bool = True,
    country: str | None = None,
    max_maturity: int | None = None,
) -> list[dict[str, Any]]:
    """The best k titles for a member by inner product, best first; fewer only where fewer may be shown.

    Each is a dict of `title_id`, `name` (None where it has none) and `score` (bigger is better).
    Titles in the member's history are left out unless `exclude_seen` is false. A title without countries is
    available everywhere, one without maturity suits everyone. Raises NotFoundError for an unknown member,
    UsageError for an id of the wrong kind and for a country that no title lists, CorruptError and MismatchError for an
    index that is not this release's.
    """
    exclude_seen = as_flag(exclude_seen, "exclude_seen")
    country, max_maturity = as_country(country), as_maturity(max_maturity)
    member = as_id(member_id, id_type(release.storage, "members", MEMBER_ID))
    row = find_row(release, "members", MEMBER_ID, member, [EMBEDDING])
    if not len(row):
        raise NotFoundError(f"there is no member {member!r} in release {release.release_id}", where=release.storage.uri)
    index = open_index(release, "candidates")
    titles = titles_in_index_order(release, index, [AVAILABLE_COUNTRIES, MATURITY])
    seen = [_seen(release, member)] if exclude_seen else None
    refuse_unknown_country(titles, country)
    allowed = allowed_titles(titles, country, max_maturity)
    ids, scores = index.search(read_embeddings(row, "members"), k, exclude=seen, allowed=allowed)
    return _as_rows(index, titles, ids[0], scores[0])


def similar(release: Release, title: Any, k: int = 10) -> list[dict[str, Any]]:
    """The k titles most like one, by cosine in the aligned space, without itself, best first.

    Answers are dicts as those of `candidates`. `title` is an id, or a name that matches one title.
    Raises as `names.find_title` and `candidates` do.
    """
    index = open_index(release, "similar")
    titles = titles_in_index_order(release, index, [])
    row = find_title(titles, title)
    ids, scores = index.search(index.vectors[[row]], k, exclude=[index.ids.values[[row]]])
    return _as_rows(index, titles, ids[0], scores[0])


def open_index(release: Release, name: str) -> TitleIndex:
    """An index of a release, checked to be of its space and built from its titles."""
    return TitleIndex.load(release.storage.subfolder("index").uri, name, origin_of(release))


def allowed_titles(titles: pa.Table, country: str | None, max_maturity: int | None) -> Mask | None:
    """Which titles (n,) may be shown in a country and up to a maturity; None where nothing is asked."""
    if country is None and max_maturity is None:
        return None
    mask = np.ones(len(titles), dtype=bool)
    if country is not None:
        places = titles[AVAILABLE_COUNTRIES].combine_chunks()
        here = pc.equal(pc.utf8_upper(places.flatten()), country.upper()).fill_null(False)
        anywhere = pc.equal(pc.list_value_length(places), 0).fill_null(True).to_numpy(zero_copy_only=False)
        listed = np.zeros(len(titles), dtype=bool)
        listed[pc.list_parent_indices(places).filter(here).to_numpy()] = True
        mask &= anywhere | listed
    if max_maturity is not None:
        suits = pc.less_equal(titles[MATURITY], max_maturity).fill_null(True)
        mask &= suits.combine_chunks().to_numpy(zero_copy_only=False)
    return mask


def refuse_unknown_country(titles: pa.Table, country: str | None) -> None:
    """Raise UsageError, naming those that there are, for a country that no title lists although some list countries.

    Where no title lists any, all are available everywhere, and any country gives all of them.
    """
    if country is None:
        return
    known = pc.unique(pc.utf8_upper(titles[AVAILABLE_COUNTRIES].combine_chunks().flatten())).drop_null().to_pylist()
    if known and country.upper() not in known:
        shown = sorted(known)[:_SHOWN]
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        near = difflib.get_close_matches(country.upper(), known, n=1)
        raise UsageError(
            f"no title lists the country {country!r}",
            expected=f"one of {', '.join(shown)}{more}",
            fix=f"did you mean {near[0]!r}?" if near else "",
        )


def titles_in_index_order(release: Release, index: TitleIndex, columns: list[str]) -> pa.Table:
    """Ids, names and more of the titles in the order of the index. Raises MismatchError where the order differs."""
    titles = release.table("titles", [TITLE_ID, NAME, *columns])
    if not titles[TITLE_ID].combine_chunks().equals(index.ids.to_table()[TITLE_ID].combine_chunks()):
        raise MismatchError(
            f"titles/ has {len(titles)} rows, index/ids.parquet {len(index)}, and their ids do not go in one order",
            where=release.storage.uri,
            fix="build the index of this release again",
        )
    return titles


def _seen(release: Release, member: Any) -> list[Any]:
    row = find_row(release, "histories", MEMBER_ID, member, [TITLE_ID])
    return [title for titles in row[TITLE_ID].to_pylist() for title in titles or []]


def _as_rows(index: TitleIndex, titles: pa.Table, ids: Any, scores: Any) -> list[dict[str, Any]]:
    there = np.isfinite(scores)
    names = titles[NAME].take(pa.array(index.ids.rows(ids[there]))).to_pylist()
    found = zip(ids[there].tolist(), names, scores[there].tolist(), strict=True)
    return [{TITLE_ID: title, NAME: name, "score": score} for title, name, score in found]


_MAX_LISTED_TITLES = 10


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
            f"{text!r} matches {len(matches)} titles", expected=_format_titles(titles, matches), fix="give the id"
        )
    close = difflib.get_close_matches(asked, sorted(set(names)), n=5)
    near = _format_titles(titles, [names.index(name) for name in close])
    raise NotFoundError(f"no title has the id or a name like {text!r}", expected=near or "an id or a name in titles/")


def _by_id(titles: pa.Table, text: Any) -> int | None:
    column = titles[TITLE_ID]
    try:
        row = column.index(pa.scalar(as_id(text, column.type), type=column.type)).as_py()
    except UsageError:  # not an id of this kind, so it is a name
        return None
    return row if row >= 0 else None


def _format_titles(titles: pa.Table, rows: list[int]) -> str:
    shown = [one_line(f"{titles[TITLE_ID][row]} {titles[NAME][row]}") for row in rows[:_MAX_LISTED_TITLES]]
    more = [f"and {len(rows) - _MAX_LISTED_TITLES} more"] if len(rows) > _MAX_LISTED_TITLES else []
    return "; ".join(shown + more)
