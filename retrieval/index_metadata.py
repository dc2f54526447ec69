"""What is stored beside the indexes in `index.json`: what they are, where they come from, what was measured."""

import sys

from pydantic import BaseModel, Field, ValidationError

from retrieval.config import Metric
from retrieval.recall import Recall
from stores.errors import CorruptError, MismatchError
from stores.files.filesystem import sha256
from stores.settings import Settings

FORMAT_VERSION = 1
FILE = "index.json"


class Origin(Settings):
    """Where vectors come from: their space, and a hash that names the artifact (the title files of a release)."""

    space_id: str = ""
    artifact: str = ""


class Trial(Settings):
    """One index type as tried: on how many titles, with which effort, how good and how fast."""

    backend: str
    search_effort: int
    titles: int
    recall: Recall | None
    queries_per_second: float
    build_seconds: float
    chosen: bool = False


class StoredFile(Settings):
    """A file beside the card: its name, bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


class IndexMetadata(Settings):
    """One index: how to search it, what it should look like once read, and what was measured when it was built."""

    metric: Metric
    dim: int
    titles: int
    backend: str
    search_effort: int
    min_filter_share: float
    """With a smaller share of titles allowed, search is exact."""
    max_exact_k: int = sys.maxsize
    """With a larger k, titles to leave out included, search is exact."""
    recall: Recall | None
    queries_per_second: float | None
    slices: dict[str, Recall] = Field(default_factory=dict)
    trials: list[Trial] = Field(default_factory=list)


class StoredIndex(IndexMetadata):
    """The same with its file."""

    file: StoredFile


class IndexFolderMetadata(Settings):
    """All indexes of one folder, which share their ids.

    `digest` is the SHA-256 of the file's own bytes with an empty digest, so that a damaged card is noticed: its figures
    decide how an index is searched. Cards from before there was one have none.
    """

    format_version: int = FORMAT_VERSION
    digest: str = ""
    origin: Origin = Origin()
    ids: StoredFile
    indexes: dict[str, StoredIndex]

    def to_bytes(self) -> bytes:
        """The file, with its digest."""
        empty = self.model_copy(update={"digest": ""}).model_dump_json(indent=1).encode()
        return empty.replace(_digest(""), _digest(sha256(empty)), 1)

    @classmethod
    def parse(cls, data: bytes, where: str) -> "IndexFolderMetadata":
        """Read a card. Raises as `read` and `refuse_damage`."""
        card = cls.read(data, where)
        card.refuse_damage(data, where)
        return card

    @classmethod
    def read(cls, data: bytes, where: str) -> "IndexFolderMetadata":
        """Read a card that may be damaged.

        Raises CorruptError where it is none, MismatchError for another format version.
        """
        try:
            version = _Version.model_validate_json(data).format_version
            if version != FORMAT_VERSION:
                raise MismatchError(
                    f"the index has format version {version}, this samespace reads {FORMAT_VERSION}",
                    where=where,
                    fix="build the index again, or use the version that wrote it",
                )
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptError(f"{FILE} cannot be read: {error}", where=where) from error

    def refuse_damage(self, data: bytes, where: str) -> None:
        """Raise CorruptError where the bytes that this card was read from are not those that were written."""
        found = sha256(data.replace(_digest(self.digest), _digest(""), 1)) if self.digest else ""
        if found != self.digest:
            given = f"{FILE} has digest {found}"
            raise CorruptError(given, where=where, expected=self.digest, fix="restore or rebuild it")

    def require(self, origin: Origin, where: str) -> None:
        """Raise MismatchError where space or artifact is not the one asked for; an empty one asks for nothing."""
        for what, there, asked in (
            ("space", self.origin.space_id, origin.space_id),
            ("artifact", self.origin.artifact, origin.artifact),
        ):
            if asked and there != asked:
                raise MismatchError(
                    f"the index belongs to {what} {there or 'unknown'}, asked for was {what} {asked}",
                    where=where,
                    fix="take vectors and index from the same release",
                )


def _digest(value: str) -> bytes:
    return f'"digest": "{value}"'.encode()


class _Version(BaseModel):
    format_version: int
