"""What is written about a release: its plan, its finished files and stages, and the manifest that seals it."""

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from stores.errors import CorruptError
from stores.settings import Settings

FORMAT_VERSION = 1


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


class Manifest(Settings):
    """What a sealed release is: the plan, every data file with its hash, and every stage's report.

    `revision` counts up whenever a member was erased and the release sealed anew.
    """

    format_version: int = FORMAT_VERSION
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


def parse_manifest(data: bytes, release_id: str) -> Manifest:
    """The manifest of a release. Raises CorruptError for another format and for what cannot be read."""
    try:
        version = json.loads(data).get("format_version")
        if version != FORMAT_VERSION:
            raise CorruptError(
                f"manifest of {release_id} has format version {version}", expected=f"version {FORMAT_VERSION}"
            )
        return Manifest.model_validate_json(data)
    except (ValueError, AttributeError) as error:
        raise CorruptError(f"the manifest of {release_id} cannot be read: {error}", where="manifest.json") from error
