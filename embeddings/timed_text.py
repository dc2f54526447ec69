"""Texts of titles that are known from a moment on: the tags that members gave, and what of them is known when.

The column `timed_text` of a catalogue has the texts of each title one by one, `list<struct<at, member_id, text>>`: `at`
in microseconds since 1970, null for what `titles/` itself says, which has no time. The column `text` is made of it, so
that an evaluation or a training makes it anew of what was known by its own moment.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.columns import MEMBER_ID, TIMED_TEXT, TITLE_ID

TAGS_PER_TITLE = 32
"""A title's frequent tags come first; the long tail is spelling."""
Ints = npt.NDArray[np.int64]


def with_tags(catalogue: pa.Table, tags: pa.Table) -> pa.Table:
    """A catalogue with the column `timed_text`, and `text` made of all of it.

    `tags` has the columns `title_id`, `member_id`, `tagged_at` (int64 microseconds) and `tag`; each title of it is in
    the catalogue, whose `text` is what `titles/` says.
    """
    titles = pc.index_in(tags[TITLE_ID], value_set=catalogue[TITLE_ID].combine_chunks()).combine_chunks()
    there = catalogue["text"].is_valid()
    stated = pa.table({"title": np.flatnonzero(there), "text": catalogue["text"].filter(there)})
    member = tags.schema.field(MEMBER_ID).type
    parts = pa.table(
        {
            "title": pa.concat_arrays([stated["title"].combine_chunks().cast(pa.int64()), titles.cast(pa.int64())]),
            "at": _joined(pa.nulls(len(stated), pa.int64()), tags["tagged_at"]),
            MEMBER_ID: _joined(pa.nulls(len(stated), member), tags[MEMBER_ID]),
            "text": _joined(stated["text"].cast(pa.string()), tags["tag"].cast(pa.string())),
        }
    )
    order = np.lexsort((_moments(parts), np.asarray(parts["title"], np.int64)))
    return _with_parts(catalogue, parts.take(pa.array(order)))


def text_as_of(
    catalogue: pa.Table, moment: int | None, member_ids: pa.Array | None = None, until: Ints | None = None
) -> pa.Table:
    """A catalogue whose texts are those known before a moment, in seconds since 1970; None for every one of them.

    What a member of `member_ids` gave is left out from the second `until` of that member on: a history that is cut
    there has not seen it. The same catalogue where it has no `timed_text`.
    """
    if TIMED_TEXT not in catalogue.column_names:
        return catalogue
    parts = _parts(catalogue)
    at = _moments(parts)
    limits = np.full(len(parts), np.iinfo(np.int64).max)
    if moment is not None:
        limits[:] = moment * 1_000_000
    if member_ids is not None and until is not None and len(member_ids):
        place = pc.index_in(parts[MEMBER_ID].cast(member_ids.type), value_set=member_ids, skip_nulls=True)
        known = np.asarray(pc.fill_null(place, -1).combine_chunks(), np.int64)
        limits = np.where(known >= 0, np.minimum(limits, until[known] * 1_000_000), limits)
    return _with_parts(catalogue, parts.filter(pa.array(at < limits)))


def _moments(parts: pa.Table) -> Ints:
    """When each text was given; long ago where that has no time."""
    return np.asarray(pc.fill_null(parts["at"], np.iinfo(np.int64).min), np.int64)


def _joined(first: pa.Array | pa.ChunkedArray, second: pa.Array | pa.ChunkedArray) -> pa.Array:
    flat = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in (first, second)]
    return pa.concat_arrays([part.cast(flat[1].type) for part in flat])


def _parts(catalogue: pa.Table) -> pa.Table:
    """Every text of every title: the row of its title, `at`, `member_id`, `text`, in that order."""
    lists = catalogue[TIMED_TEXT].combine_chunks()
    flat = lists.flatten()
    fields = {name: flat.field(name) for name in ("at", MEMBER_ID, "text")}
    return pa.table({"title": pc.list_parent_indices(lists).cast(pa.int64()), **fields})


def _with_parts(catalogue: pa.Table, parts: pa.Table) -> pa.Table:
    """The catalogue with other timed texts, which are in the order of titles and times, and the text made of them."""
    counts = np.bincount(np.asarray(parts["title"], np.int64), minlength=len(catalogue))
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    names = ("at", MEMBER_ID, "text")
    cells = pa.StructArray.from_arrays([parts[name].combine_chunks() for name in names], list(names))
    lists = pa.ListArray.from_arrays(offsets, cells)
    if TIMED_TEXT in catalogue.column_names:
        catalogue = catalogue.drop_columns([TIMED_TEXT])
    place = catalogue.schema.get_field_index("text")
    text = _texts(parts, len(catalogue))
    return catalogue.set_column(place, catalogue.schema.field(place), text).append_column(TIMED_TEXT, lists)


def _texts(parts: pa.Table, titles: int) -> pa.Array:
    """The text of each title: what `titles/` says, then its most frequent tags, lower case, null where it has none."""
    stated = parts.filter(pc.is_null(parts["at"])).select(["title", "text"])
    said = parts.filter(pc.is_valid(parts["at"]))
    words = pc.utf8_trim_whitespace(pc.utf8_lower(said["text"]))
    tags = pa.table({"title": said["title"], "text": words}).filter(pc.greater(pc.utf8_length(words), 0))
    counted = tags.group_by(["title", "text"]).aggregate([([], "count_all")])
    counted = counted.sort_by([("title", "ascending"), ("count_all", "descending"), ("text", "ascending")])
    owner = np.asarray(counted["title"], np.int64)
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    frequent = counted.filter(pa.array(place < TAGS_PER_TITLE)).select(["title", "text"])
    every = pa.concat_tables([stated, frequent]).combine_chunks()
    order = np.argsort(np.asarray(every["title"], np.int64), kind="stable")
    owner = np.asarray(every["title"], np.int64)[order]
    counts = np.bincount(owner, minlength=titles)
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, every["text"].combine_chunks().take(pa.array(order)))
    return pc.if_else(pa.array(counts > 0), pc.binary_join(lists, ", "), pa.scalar(None, pa.string()))
