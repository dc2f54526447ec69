"""One release in memory: members with what each has seen, indexes, and answers to lookups."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrieval.filters import Filter
from retrieval.ids import TitleIds
from retrieval.index import TitleIndex
from retrieval.lookup import (
    AVAILABLE_COUNTRIES,
    MATURITY,
    allowed_titles,
    find_title,
    open_index,
    refuse_unknown_country,
    titles_in_index_order,
)
from retrieval.release_reader import as_id, read_embeddings
from retrieval.vectors import Mask, Rows, Vectors, as_vectors, unit
from stores.errors import NotFoundError, UsageError
from stores.releases.release import Release
from stores.schema import EMBEDDING, EVENT_TIME, MEMBER_ID, NAME, RELEASE_ID, TITLE_ID


@dataclass(frozen=True)
class MemberTable:
    """Members by row: `ids` (n,), `vectors` (n, d), and `seen`, title rows from `offsets[row]` to `offsets[row + 1]`.

    Takes 4·d bytes a member for its vector and 4 for each title that it has seen.
    """

    ids: TitleIds
    kind: pa.DataType
    vectors: Vectors
    changes: pa.Table
    """`event_time` and `release_id` of each row: the member's last event, and the release that last changed it."""
    offsets: Rows
    seen: npt.NDArray[np.int32]

    @classmethod
    def load(cls, release: Release, titles: TitleIds) -> "MemberTable":
        """The members of a release; `titles` are its titles in the order of their rows."""
        table = release.table("members", [MEMBER_ID, EMBEDDING, EVENT_TIME, RELEASE_ID])
        ids = TitleIds.of(table[MEMBER_ID])
        offsets, seen = _seen(release, ids, titles)
        changes = table.select([EVENT_TIME, RELEASE_ID])
        return cls(ids, table.schema.field(MEMBER_ID).type, read_embeddings(table, "members"), changes, offsets, seen)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, member_id: Any) -> int:
        """The row of a member. Raises NotFoundError, also for what cannot be an id here."""
        try:
            member = as_id(member_id, self.kind)
        except UsageError as error:
            raise NotFoundError(f"there is no such member: {error.what}", expected=error.expected) from error
        row = int(self.ids.rows([member])[0])
        if row < 0:
            raise NotFoundError(f"there is no member {member!r} in this release", expected="an id in members/")
        return row

    def seen_by(self, row: int) -> Rows:
        """The rows of the titles in a member's history, oldest first."""
        return self.seen[self.offsets[row] : self.offsets[row + 1]].astype(np.int64)

    @cached_property
    def _by_title(self) -> tuple[Rows, Rows]:
        """Members of each title: (rows of titles, sorted; rows of members beside them), each pair once."""
        member = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        pairs = np.unique(self.seen.astype(np.int64) * len(self) + member)
        return pairs // len(self), pairs % len(self)

    def of_title(self, title: int) -> Rows:
        """The rows of the members whose history has a title."""
        titles, members = self._by_title
        low, high = np.searchsorted(titles, [title, title + 1])
        return members[low:high]


def _seen(release: Release, members: TitleIds, titles: TitleIds) -> tuple[Rows, npt.NDArray[np.int32]]:
    """Offsets (n + 1,) and title rows, in the order of the members; titles that left the catalogue are left out."""
    table = release.table("histories", [MEMBER_ID, TITLE_ID]).combine_chunks()
    lists = table[TITLE_ID].combine_chunks() if len(table) else pa.array([], table.schema.field(TITLE_ID).type)
    rows = titles.rows(lists.flatten())
    owner = members.rows(table[MEMBER_ID])[lists.value_parent_indices().to_numpy()]
    kept = (rows >= 0) & (owner >= 0)
    rows, owner = rows[kept], owner[kept]
    order = np.argsort(owner, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(members)))])
    return offsets.astype(np.int64), rows[order].astype(np.int32)


RowScores = list[tuple[int, float]]
"""Rows of titles and their scores, best first."""


class AmbiguousError(UsageError):
    """A name that several titles have."""


_COLUMNS = ["genres", "kind", "launch_time", "plays", AVAILABLE_COUNTRIES, MATURITY]
_MAX_CACHED_MASKS = 64


@dataclass(frozen=True)
class TitleFilter:
    """What may be shown: the country and the maturity of a request; None asks for nothing."""

    country: str | None = None
    max_maturity: int | None = None


@dataclass(frozen=True)
class TitleCatalogue:
    """The titles of a release and who is like whom; `titles`, `ids` and `names` are in the order of the index."""

    release: Release
    cosine: TitleIndex
    titles: pa.Table
    ids: list[Any]
    names: list[str | None]
    _masks: dict[TitleFilter, Mask | None] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, release: Release) -> "TitleCatalogue":
        """The catalogue of a sealed release. Raises CorruptError and MismatchError for files that are not its own."""
        return cls(**_catalogue(release))

    @property
    def release_id(self) -> str:
        """The id of the release."""
        return self.release.release_id

    @property
    def space_id(self) -> str:
        """The space of its vectors."""
        return self.release.manifest.space_id

    @cached_property
    def folded(self) -> list[str]:
        """Names without case, made once: each keystroke in the explorer looks through all of them."""
        return [(name or "").casefold() for name in self.names]

    def title(self, text: Any) -> int:
        """The row of a title by its id, or by a name that matches one.

        Raises NotFoundError where there is none, AmbiguousError, naming them, where several match.
        """
        try:
            return find_title(self.titles, text)
        except NotFoundError:
            raise
        except UsageError as error:
            raise AmbiguousError(error.what, expected=error.expected, fix=error.fix) from error

    def similar(self, title: int, k: int, limits: TitleFilter | None = None) -> RowScores:
        """The k titles most like the title of a row, by cosine, without itself."""
        return self._search(self.cosine, self.cosine.vectors[[title]], k, np.array([title]), limits or TitleFilter())

    def _search(self, index: TitleIndex, query: Any, k: int, gone: Rows | None, limits: TitleFilter) -> RowScores:
        wanted = Filter(self._allowed(limits), None if gone is None else [gone])
        rows, scores = index.engine.search(query, k, wanted)
        return [(row, score) for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True) if row >= 0]

    def _allowed(self, limits: TitleFilter) -> Mask | None:
        """The mask of a country and a maturity; few are in use, so the last ones are kept.

        Raises UsageError, naming the known ones, for a country that no title lists.
        """
        if limits in self._masks:
            return self._masks[limits]
        refuse_unknown_country(self.titles, limits.country)
        mask = allowed_titles(self.titles, limits.country, limits.max_maturity)
        if len(self._masks) >= _MAX_CACHED_MASKS:
            self._masks.pop(next(iter(self._masks)), None)
        self._masks[limits] = mask
        return mask


@dataclass(frozen=True)
class LoadedRelease(TitleCatalogue):
    """Everything that the service answers from; a request takes one of these and never a second."""

    inner: TitleIndex = field(kw_only=True)
    members: MemberTable = field(kw_only=True)

    @classmethod
    def load(cls, release: Release) -> "LoadedRelease":
        """Open a sealed release. Raises CorruptError and MismatchError where its files are not what it says."""
        inner = open_index(release, "candidates")
        return cls(**_catalogue(release), inner=inner, members=MemberTable.load(release, inner.ids))

    def candidates(self, member: int, k: int, exclude_seen: bool, limits: TitleFilter) -> RowScores:
        """The k best titles for the member of a row, by inner product."""
        gone = self.members.seen_by(member) if exclude_seen else None
        return self._search(self.inner, self.members.vectors[[member]], k, gone, limits)

    def search(self, vector: Any, k: int, exclude: list[Any], limits: TitleFilter, cosine: bool = False) -> RowScores:
        """The k titles nearest a vector (d,) by inner product, or by cosine."""
        asked = as_vectors([vector], "query", self.inner.dim)
        gone = self.inner.ids.excluded([exclude], 1)[0]
        if cosine:
            return self._search(self.cosine, unit(asked), k, gone, limits)
        return self._search(self.inner, asked, k, gone, limits)


def _catalogue(release: Release) -> dict[str, Any]:
    index = open_index(release, "similar")
    titles = titles_in_index_order(release, index, _COLUMNS)
    names = titles[NAME].to_pylist()
    return {"release": release, "cosine": index, "titles": titles, "ids": index.ids.values.tolist(), "names": names}
