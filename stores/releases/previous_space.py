"""A release as the consumers of an older space see it: its vectors mapped onto that space, everything else as it was.

The mapped vectors lie in `spaces/<space_id>/` of the release. Other features of an old space are frozen: they stay
those of the last release that lay in it.
"""

from functools import cached_property
from typing import Any

import pyarrow as pa

from stores.errors import MismatchError
from stores.feast.feature_views import EMBEDDINGS
from stores.releases.change_log import CHANGES_FOLDER
from stores.releases.manifest import Manifest, Plan, PreviousSpace
from stores.releases.release import Release

SPACES_FOLDER = "spaces"
MAPPED_PREFIXES = (*(f"{view.folder}/" for view in EMBEDDINGS), f"{CHANGES_FOLDER}/")


def in_space(release: Release, space_id: str) -> Release:
    """A sealed release in its own space as it is, in an older one as its consumers see it.

    Raises MismatchError where it was not mapped onto that space.
    """
    return release if release.space_id == space_id else PreviousSpaceRelease(release, space_id)


def opener_of(release: Release) -> str:
    """The release that opened a release's space: itself if it did, else the one it refers to."""
    if isinstance(release, PreviousSpaceRelease):
        return release.old.reference_release
    opened = release.plan.reference_release is None or release.space_id != release.plan.space_id
    return release.release_id if opened else str(release.plan.reference_release)


def freeze_reasons(release: Release, reasons: list[str]) -> PreviousSpace:
    """What it means for a space to go on serving a release, as that space sees it."""
    last = release.old.last_release if isinstance(release, PreviousSpaceRelease) else release.release_id
    return PreviousSpace(
        release_id=release.release_id, reference_release=opener_of(release), last_release=last, reasons=reasons
    )


def space_folder(space_id: str) -> str:
    """Where a release keeps what it maps onto an older space."""
    return f"{SPACES_FOLDER}/{space_id}"


class PreviousSpaceRelease(Release):
    """A sealed release in an older space that it was mapped onto; read only. Paths are those of any release."""

    def __init__(self, release: Release, space_id: str) -> None:
        super().__init__(release.workspace_uri, release.release_id, release.token)
        old = release.manifest.previous_spaces.get(space_id)
        if old is None or old.release_id != release.release_id:
            raise MismatchError(f"release {release.release_id} was not mapped onto space {space_id}", where=repr(self))
        self.whole, self.place, self.old = release, space_folder(space_id), old
        self.storage = release.storage.subfolder(SPACES_FOLDER, space_id)
        self._space_id = space_id

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: self.__dict__[name] for name in ("whole", "place", "old", "_space_id")}
        return super().__getstate__() | kept

    @property
    def space_id(self) -> str:
        """The older space."""
        return self._space_id

    @property
    def sealed(self) -> bool:
        """Whether the release exists for readers."""
        return self.whole.sealed

    @property
    def plan(self) -> Plan:
        """What the night set out to do."""
        return self.whole.plan

    @cached_property
    def manifest(self) -> Manifest:
        """The release's, with the files that its consumers in this space are served."""
        mapped = [
            entry.model_copy(update={"path": entry.path.removeprefix(f"{self.place}/")})
            for entry in self.whole.manifest.files
            if entry.path.startswith(f"{self.place}/")
        ]
        frozen = [entry for entry in self._last.manifest.files if not entry.path.startswith(MAPPED_PREFIXES)]
        return self.whole.manifest.model_copy(update={"files": [*mapped, *frozen], "space_id": self._space_id})

    def schema(self, folder: str) -> pa.Schema:
        """The columns of a folder's files."""
        return super().schema(folder) if f"{folder}/" in MAPPED_PREFIXES else self._last.schema(folder)

    def read_table(
        self, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
    ) -> pa.Table:
        """One Parquet file. Raises CorruptError unless its bytes are those that were written."""
        if not path.startswith(MAPPED_PREFIXES):
            return self._last.read_table(path, columns, dictionaries)
        return self.whole.read_table(f"{self.place}/{path}", columns, dictionaries)

    @property
    def _last(self) -> Release:
        return in_space(self.other(self.old.last_release), self._space_id)
