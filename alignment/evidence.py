"""What a night knows of the reference: anchors to fit, anchors to measure, and who the titles among them are."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment.anchors import Anchors
from alignment.gram import Rows
from alignment.reference import matrix_of, positions
from alignment.sampling import held_out
from alignment.shards import popularity_weights
from stores.columns import HISTORY_HASH, MEMBER_ID, RELEASE_ID, TITLE_ID


@dataclass(frozen=True, eq=False)
class Evidence:
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
        return held_out(self.titles[TITLE_ID])

    def split(self) -> tuple[Anchors, Anchors]:
        """Anchors to fit and anchors to measure."""
        everyone = Anchors(self.new, self.reference, self.weights, self.member_new, self.member_reference)
        return everyone.split(self.held_out, held_out(self.member_ids))

    def share_of(self, release_id: str) -> float:
        """Share of the title anchors whose position was added by a release: of the epoch, it tells their age."""
        return float(np.mean([added == release_id for added in self.added_by.to_pylist()])) if len(self.titles) else 0.0

    def ages(self, release_id: str) -> NDArray[np.float64]:
        """Days that each title anchor has had its position on the night of a release, (n,)."""
        tonight = _time(release_id)
        added = {release: _time(release) for release in self.added_by.unique().to_pylist()}
        return np.array([(tonight - added[release]).total_seconds() / 86400 for release in self.added_by.to_pylist()])


def evidence_of(
    titles: pa.Table, reference: pa.Table, members: pa.Table, old_members: pa.Table, popularity: float
) -> Evidence:
    """Join established native `titles` and `members` with the reference's by id.

    All four are tables of an id and `embedding`; `titles` has `name` and `plays` too, `reference` has `release_id`, and
    members have `history_hash`: who did anything since then has moved in any model, and says nothing of the space.
    Raises MismatchError where the kinds of ids differ.
    """
    titles, reference = _common(titles, reference, TITLE_ID)
    members, old_members = _common(members, old_members, MEMBER_ID)
    same = pc.equal(members[HISTORY_HASH], old_members[HISTORY_HASH])
    members, old_members = members.filter(same), old_members.filter(same)
    return Evidence(
        titles=titles.drop_columns(["embedding"]),
        new=matrix_of(titles),
        reference=matrix_of(reference),
        weights=popularity_weights(titles, "titles", popularity),
        added_by=reference[RELEASE_ID],
        member_ids=members[MEMBER_ID],
        member_new=matrix_of(members),
        member_reference=matrix_of(old_members),
    )


def _time(release_id: str) -> datetime:
    """The time that a release's id begins with."""
    return datetime.strptime(release_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _common(new: pa.Table, old: pa.Table, key: str) -> tuple[pa.Table, pa.Table]:
    """The rows of both tables whose ids both have, in the order of `new`."""
    found = positions(new[key], old[key])
    return new.filter(pa.array(found >= 0)), old.take(pa.array(found[found >= 0]))
