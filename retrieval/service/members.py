"""The members of one release in memory: vectors, and the rows of the titles that each has seen."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrieval.ids import TitleIds
from retrieval.rows import as_id, embeddings
from retrieval.vectors import Rows, Vectors
from stores.columns import EMBEDDING, EVENT_TIME, MEMBER_ID, RELEASE_ID, TITLE_ID
from stores.errors import NotFoundError, UsageError
from stores.release import Release


@dataclass(frozen=True)
class Members:
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
    def of(cls, release: Release, titles: TitleIds) -> "Members":
        """The members of a release; `titles` are its titles in the order of their rows."""
        table = release.table("members", [MEMBER_ID, EMBEDDING, EVENT_TIME, RELEASE_ID])
        ids = TitleIds.of(table[MEMBER_ID])
        offsets, seen = _seen(release, ids, titles)
        changes = table.select([EVENT_TIME, RELEASE_ID])
        return cls(ids, table.schema.field(MEMBER_ID).type, embeddings(table, "members"), changes, offsets, seen)

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
