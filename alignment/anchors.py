"""Anchors: entities that both this release and the reference hold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alignment.second_moments import Rows, as_rows, as_weights, refuse_non_finite
from stores.errors import AlignmentInputError, MismatchError


@dataclass(frozen=True, eq=False)
class Anchors:
    """Rows of the same entities: `new` (n, e) in the model's native space, `reference` (n, s) in the space.

    These are titles, with `weights` (n,) (None: equal; 0: absent). `member_new` (p, e) and
    `member_reference` (p, s) are members, given both or neither. Raises AlignmentError where rows are
    not finite (by position), AlignmentInputError for other kinds and shapes, MismatchError where counts or widths
    differ.
    """

    new: Rows
    reference: Rows
    weights: Rows | None = None
    member_new: Rows | None = None
    member_reference: Rows | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "new", as_rows(self.new, "new"))
        set_field(self, "reference", as_rows(self.reference, "reference"))
        set_field(self, "weights", as_weights(self.weights, len(self.new)))
        if (self.member_new is None) != (self.member_reference is None):
            raise AlignmentInputError("member anchors need both member_new and member_reference")
        for name, titles in (("member_new", self.new), ("member_reference", self.reference)):
            given = getattr(self, name)
            set_field(self, name, titles[:0] if given is None else as_rows(given, name))
        self._same_shapes()
        refuse_non_finite(self.new[self.has_weight], "anchors")
        refuse_non_finite(self.reference[self.has_weight], "references of anchors")
        refuse_non_finite(self.members[0], "member anchors")
        refuse_non_finite(self.members[1], "references of member anchors")

    def _same_shapes(self) -> None:
        for new, reference, what in ((self.new, self.reference, "titles"), (*self.members, "members")):
            if len(new) != len(reference):
                raise MismatchError(f"{len(new)} new and {len(reference)} reference rows of {what} are paired")
        widths = (self.new.shape[1], self.members[0].shape[1]), (self.reference.shape[1], self.members[1].shape[1])
        for titles, members in widths:
            if titles != members:
                raise MismatchError(f"anchors are {titles} wide for titles and {members} for members")

    @property
    def has_weight(self) -> NDArray[np.bool_]:
        """Which titles have a weight above 0, (n,)."""
        return np.asarray(self.weights) > 0

    @property
    def members(self) -> tuple[Rows, Rows]:
        """Both sides of the member anchors, (0, ·) where there are none."""
        return np.asarray(self.member_new), np.asarray(self.member_reference)

    @property
    def count(self) -> int:
        """Titles that count, and members."""
        return int(self.has_weight.sum()) + len(self.members[0])

    def without_zero_weights(self) -> "Anchors":
        """Without the titles of weight 0, so that they cannot touch a single bit."""
        return self._select(self.has_weight, np.ones(len(self.members[0]), dtype=bool))

    @property
    def width(self) -> int:
        """The width s of the space."""
        return int(self.reference.shape[1])

    def split(self, held_out: NDArray[np.bool_], members_held_out: NDArray[np.bool_]) -> tuple["Anchors", "Anchors"]:
        """Those to fit and those to measure, by one boolean per title and per member."""
        return self._select(~held_out, ~members_held_out), self._select(held_out, members_held_out)

    def _select(self, titles: NDArray[np.bool_], members: NDArray[np.bool_]) -> "Anchors":
        new, reference = self.members
        weights = np.asarray(self.weights)[titles]
        return Anchors(self.new[titles], self.reference[titles], weights, new[members], reference[members])
