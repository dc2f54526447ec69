"""What is written about a release: its plan, its finished files and stages, and the manifest that seals it."""

import re
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from stores.errors import CorruptError
from stores.files.checksummed_json import object_of, validated
from stores.files.filesystem import sha256
from stores.settings import Settings

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


class FileEntry(Settings):
    """One finished file of a release: its path there, rows, bytes and SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str


class StageReport(Settings):
    """What a finished stage says of itself: seconds, rows, and figures that JSON can hold."""

    name: str
    seconds: float = 0.0
    rows: int = 0
    metrics: dict[str, Any] = Field(default_factory=dict)


class Plan(Settings):
    """What a night set out to do; fixed before its first stage and kept when it is resumed."""

    release_id: str
    plan_hash: str
    lake: str
    lake_fingerprint: str = ""
    as_of: datetime
    created_at: datetime
    model_id: str
    space_id: str
    reference_release: str | None
    previous_release: str | None
    shards: int
    full: bool = False
    config: dict[str, Any]


class PreviousSpace(Settings):
    """What an older space serves while a release is live: the rows that `release_id` has there.

    That is the release itself where its vectors could be mapped, else the one at which the space froze, and `reasons`
    say why. `reference_release` opened the space, `last_release` was the last that lay in it.
    """

    release_id: str
    reference_release: str
    last_release: str
    reasons: list[str] = Field(default_factory=list)


class Manifest(Settings):
    """What a sealed release is: the plan, every data file with its hash, and every stage's report.

    `digest` is the SHA-256 of the file's own bytes with an empty digest, so that a damaged manifest is noticed.
    `revision` counts up whenever a member was erased and the release sealed anew. `previous_spaces` are, by space,
    those that `[publish] previous_spaces_until` keeps or kept.
    """

    format_version: int = FORMAT_VERSION
    digest: str = ""
    revision: int = 1
    status: Literal["ready", "held"]
    release_id: str
    space_id: str
    model_id: str
    sealed_at: datetime
    reasons: list[str]
    plan: Plan
    files: list[FileEntry]
    stages: list[StageReport]
    versions: dict[str, str] = Field(default_factory=dict)
    previous_spaces: dict[str, PreviousSpace] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file, with its digest."""
        empty = self.model_copy(update={"digest": ""}).model_dump_json(indent=1).encode()
        return empty.replace(_digest(""), _digest(sha256(empty)), 1)


def parse_manifest(data: bytes, release_id: str) -> Manifest:
    """The manifest of a release. Raises CorruptError for another format and for what cannot be read or is damaged."""
    name, cure = f"the manifest of {release_id}", "restore the file, or roll back"
    facts = object_of(data, name, MANIFEST, cure)
    if (version := facts.get("format_version")) != FORMAT_VERSION:
        raise CorruptError(
            f"{name} has format version {version}", where=MANIFEST, expected=f"version {FORMAT_VERSION}", fix=cure
        )
    manifest = validated(facts, Manifest, name, MANIFEST, cure)
    found = sha256(data.replace(_digest(manifest.digest), _digest(""), 1))
    if manifest.digest not in ("", found):
        raise CorruptError(f"{name} has digest {found}", where=MANIFEST, expected=manifest.digest, fix=cure)
    return manifest


def is_release_id(name: str) -> bool:
    """Whether a folder can be a release's: others may lie beside them (`lost+found`)."""
    return _ID.fullmatch(name) is not None


def previous_spaces_of(stages: list[StageReport]) -> dict[str, PreviousSpace]:
    """What the stage `previous_spaces` decided of them, if there was one."""
    found: dict[str, Any] = next((one.metrics["spaces"] for one in stages if one.name == "previous_spaces"), {})
    return {space_id: PreviousSpace.model_validate(facts) for space_id, facts in found.items()}


def _digest(value: str) -> bytes:
    return f'"digest": "{value}"'.encode()
