"""One release, opened to answer: both indexes, the catalogue beside them, and the members. Immutable, thread-safe."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.filters import Filter
from retrieval.index import TitleIndex
from retrieval.lookup import AVAILABLE, MATURITY, open_index, permitted, refuse_unknown_country, titles_beside
from retrieval.names import find_title
from retrieval.service.members import Members
from retrieval.vectors import Mask, Rows, as_vectors, unit
from stores.columns import NAME
from stores.errors import NotFoundError, UsageError
from stores.release import Release

Found = list[tuple[int, float]]
"""Rows of titles and their scores, best first."""


class AmbiguousError(UsageError):
    """A name that several titles have."""


_COLUMNS = ["genres", "kind", "launch_time", "plays", AVAILABLE, MATURITY]
_MASKS = 64


@dataclass(frozen=True)
class Limits:
    """What may be shown: the country and the maturity of a request; None asks for nothing."""

    country: str | None = None
    max_maturity: int | None = None


@dataclass(frozen=True)
class Catalogue:
    """The titles of a release and who is like whom; `titles`, `ids` and `names` are in the order of the index."""

    release: Release
    cosine: TitleIndex
    titles: pa.Table
    ids: list[Any]
    names: list[str | None]
    _masks: dict[Limits, Mask | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, release: Release) -> "Catalogue":
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

    def similar(self, title: int, k: int, limits: Limits | None = None) -> Found:
        """The k titles most like the title of a row, by cosine, without itself."""
        return self._search(self.cosine, self.cosine.vectors[[title]], k, np.array([title]), limits or Limits())

    def _search(self, index: TitleIndex, query: Any, k: int, gone: Rows | None, limits: Limits) -> Found:
        wanted = Filter(self._allowed(limits), None if gone is None else [gone])
        rows, scores = index.engine.search(query, k, wanted)
        return [(row, score) for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True) if row >= 0]

    def _allowed(self, limits: Limits) -> Mask | None:
        """The mask of a country and a maturity; few are in use, so the last ones are kept.

        Raises UsageError, naming the known ones, for a country that no title lists.
        """
        if limits in self._masks:
            return self._masks[limits]
        refuse_unknown_country(self.titles, limits.country)
        mask = permitted(self.titles, limits.country, limits.max_maturity)
        if len(self._masks) >= _MASKS:
            self._masks.pop(next(iter(self._masks)), None)
        self._masks[limits] = mask
        return mask


@dataclass(frozen=True)
class OpenRelease(Catalogue):
    """Everything that the service answers from; a request takes one of these and never a second."""

    inner: TitleIndex = field(kw_only=True)
    members: Members = field(kw_only=True)

    @classmethod
    def of(cls, release: Release) -> "OpenRelease":
        """Open a sealed release. Raises CorruptError and MismatchError where its files are not what it says."""
        inner = open_index(release, "candidates")
        return cls(**_catalogue(release), inner=inner, members=Members.of(release, inner.ids))

    def candidates(self, member: int, k: int, exclude_seen: bool, limits: Limits) -> Found:
        """The k best titles for the member of a row, by inner product."""
        gone = self.members.seen_by(member) if exclude_seen else None
        return self._search(self.inner, self.members.vectors[[member]], k, gone, limits)

    def search(self, vector: Any, k: int, exclude: list[Any], limits: Limits, cosine: bool = False) -> Found:
        """The k titles nearest a vector (d,) by inner product, or by cosine."""
        asked = as_vectors([vector], "query", self.inner.dim)
        gone = self.inner.ids.excluded([exclude], 1)[0]
        if cosine:
            return self._search(self.cosine, unit(asked), k, gone, limits)
        return self._search(self.inner, asked, k, gone, limits)


def _catalogue(release: Release) -> dict[str, Any]:
    index = open_index(release, "similar")
    titles = titles_beside(release, index, _COLUMNS)
    names = titles[NAME].to_pylist()
    return {"release": release, "cosine": index, "titles": titles, "ids": index.ids.values.tolist(), "names": names}
