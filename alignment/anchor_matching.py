"""What a night knows of the reference: anchors to fit, anchors to measure, and who the titles among them are."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment.anchors import Anchors
from alignment.reference import is_held_out, positions_in, to_matrix
from alignment.second_moments import Rows
from alignment.shard_tasks import popularity_weights
from stores.schema import HISTORY_HASH, MEMBER_ID, RELEASE_ID, TITLE_ID


@dataclass(frozen=True, eq=False)
class MatchedAnchors:
    """Titles that both sides know, row by row: `titles`, `new` (n, e) native, `reference` (n, s); members likewise.

    `weights` (n,) say what each title counts in the second moment of its side, and as an anchor.
    """

    titles: pa.Table
    new: Rows
    reference: Rows
    weights: NDArray[np.float64]
    added_by: pa.ChunkedArray
    member_ids: pa.ChunkedArray
    member_new: Rows
    member_reference: Rows

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Which titles measure, (n,)."""
        return is_held_out(self.titles[TITLE_ID])

    def split(self) -> tuple[Anchors, Anchors]:
        """Anchors to fit and anchors to measure."""
        everyone = Anchors(self.new, self.reference, self.weights, self.member_new, self.member_reference)
        return everyone.split(self.held_out, is_held_out(self.member_ids))

    def share_added_by(self, release_id: str) -> float:
        """Share of the title anchors whose position was added by a release: of the epoch, it tells their age."""
        return float(np.mean([added == release_id for added in self.added_by.to_pylist()])) if len(self.titles) else 0.0

    def ages(self, release_id: str) -> NDArray[np.float64]:
        """Days that each title anchor has had its position on the night of a release, (n,)."""
        tonight = _release_time(release_id)
        added = {release: _release_time(release) for release in self.added_by.unique().to_pylist()}
        return np.array([(tonight - added[release]).total_seconds() / 86400 for release in self.added_by.to_pylist()])


def match_anchors(
    titles: pa.Table, reference: pa.Table, members: pa.Table, old_members: pa.Table, popularity: float
) -> MatchedAnchors:
    """Join established native `titles` and `members` with the reference's by id.

    All four are tables of an id and `embedding`; `titles` has `name` and `plays` too, `reference` has `release_id`, and
    members have `history_hash`: who did anything since then has moved in any model, and says nothing of the space.
    Raises MismatchError where the kinds of ids differ.
    """
    titles, reference = _join_by_id(titles, reference, TITLE_ID)
    members, old_members = _join_by_id(members, old_members, MEMBER_ID)
    same = pc.equal(members[HISTORY_HASH], old_members[HISTORY_HASH])
    members, old_members = members.filter(same), old_members.filter(same)
    return MatchedAnchors(
        titles=titles.drop_columns(["embedding"]),
        new=to_matrix(titles),
        reference=to_matrix(reference),
        weights=popularity_weights(titles, "titles", popularity),
        added_by=reference[RELEASE_ID],
        member_ids=members[MEMBER_ID],
        member_new=to_matrix(members),
        member_reference=to_matrix(old_members),
    )


def _release_time(release_id: str) -> datetime:
    """The time that a release's id begins with."""
    return datetime.strptime(release_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _join_by_id(new: pa.Table, old: pa.Table, key: str) -> tuple[pa.Table, pa.Table]:
    """The rows of both tables whose ids both have, in the order of `new`."""
    found = positions_in(new[key], old[key])
    return new.filter(pa.array(found >= 0)), old.take(pa.array(found[found >= 0]))
