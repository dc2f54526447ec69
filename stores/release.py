"""A release: an immutable, published set of members, titles, transform and index of one model state.

While it is staged, stages write files through `write_table` and `write_bytes`; each finished file
leaves an entry with its hash, which is how an interrupted night knows what need not be redone. `seal`
writes `manifest.json` last: a release without one does not exist for readers.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import ValidationError

from stores.checked_json import checked, read_checked
from stores.errors import CorruptError, NotFoundError, UsageError
from stores.lease import check_token
from stores.manifest import (
    FORMAT_VERSION,
    FileEntry,
    Manifest,
    Plan,
    StageReport,
    is_release_id,
    old_spaces,
    parse_manifest,
)
from stores.parquet import parquet_bytes, table_of
from stores.storage import Storage, absolute, sha256

if TYPE_CHECKING:
    import pyarrow.dataset as ds

__all__ = ["EVENTS", "FORMAT_VERSION", "RELEASES", "WORK", "FileEntry", "Manifest", "Plan", "Release", "StageReport"]

RELEASES = "releases"
WORK = "work"
EVENTS = "events"


class Release:
    """One release of a workspace, staged or sealed; pickles, so it travels to Ray workers.

    `token` is the fencing token of the night that writes it: once another night has taken the
    workspace over, every write raises BusyError.
    """

    def __init__(self, workspace_uri: str, release_id: str, token: int | None = None) -> None:
        if not is_release_id(release_id):
            raise UsageError(f"not a release id: {release_id!r}", expected="for example 20260721T020000Z-3f9a")
        self.workspace_uri, self.release_id, self.token = workspace_uri, release_id, token
        self.storage = Storage(workspace_uri).below(RELEASES, release_id)

    def __repr__(self) -> str:
        return f"Release({self.release_id!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: self.__dict__[name] for name in ("release_id", "token", "storage")}
        return {"workspace_uri": absolute(self.workspace_uri), **kept}

    def sibling(self, release_id: str) -> "Release":
        """Another release of the same workspace."""
        return Release(self.workspace_uri, release_id)

    # --- reading

    @cached_property
    def plan(self) -> Plan:
        """What the night set out to do. Raises CorruptError where that cannot be read."""
        return self.manifest.plan if self.sealed else self._planned()

    def _planned(self) -> Plan:
        try:
            return Plan.model_validate_json(self.storage.read("plan.json"))
        except ValidationError as error:
            raise CorruptError(f"plan.json cannot be read: {error}", where=self.storage.uri) from error

    @property
    def sealed(self) -> bool:
        """Whether the release exists for readers."""
        return self.storage.exists("manifest.json")

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest. Raises NotFoundError where there is none, CorruptError where it cannot be read."""
        if not self.sealed:
            raise NotFoundError(f"there is no sealed release {self.release_id}", where=self.workspace_uri)
        return parse_manifest(self.storage.read("manifest.json"), self.release_id)

    @property
    def space_id(self) -> str:
        """The space of the vectors: the alignment's verdict once there is one, before that the plan's."""
        if self.sealed:
            return self.manifest.space_id
        report = self.report("align")
        return str(report.metrics["space_id"]) if report else self.plan.space_id

    def members(self) -> "ds.Dataset":
        """Aligned member vectors, `columns.member_vector_schema`."""
        return self.storage.dataset("members")

    def titles(self) -> "ds.Dataset":
        """Aligned title vectors, `columns.title_vector_schema`."""
        return self.storage.dataset("titles")

    def histories(self) -> "ds.Dataset":
        """Token histories, `columns.history_schema`."""
        return self.storage.dataset("histories")

    def schema(self, folder: str) -> pa.Schema:
        """The columns of a folder's Parquet files."""
        return self.storage.dataset(folder).schema

    def read_table(
        self, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
    ) -> pa.Table:
        """A Parquet file as from `Storage.read_table`. Raises CorruptError also where a sealed one was changed."""
        if self.sealed:
            return table_of(self.read_bytes(path), path, columns, dictionaries)
        return self.storage.read_table(path, columns, dictionaries)

    def batches(self, folder: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The Parquet files below a folder, one table each, in the order of their names; checked as by `read_table`."""
        for path in self.storage.files(folder):
            if path.endswith(".parquet"):
                yield self.read_table(path, columns)

    def table(self, folder: str, columns: list[str] | None = None) -> pa.Table:
        """All rows of a folder's Parquet files, checked as by `read_table`. Raises CorruptError where there is none."""
        parts = list(self.batches(folder, columns))
        if not parts:
            raise CorruptError(f"{folder} has no Parquet file", where=self.storage.uri)
        return pa.concat_tables(parts)

    def read_bytes(self, path: str) -> bytes:
        """One file. Raises CorruptError unless, once the release is sealed, its bytes are those that were written."""
        data = self.storage.read(path)
        if not self.sealed:
            return data
        if (found := sha256(data)) != self.hashes.get(path):
            for name in ("manifest", "hashes"):  # an erasure may have sealed the next revision meanwhile
                self.__dict__.pop(name, None)
        if found != (wanted := self.hashes.get(path)):
            raise CorruptError(
                f"{path} has hash {found}, the manifest says {wanted or 'nothing of it'}",
                where=self.storage.uri,
                fix="samespace doctor --verify names every damaged file; restore it, or roll back",
            )
        return data

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256, in hexadecimal, of every file of a sealed release by its path, as the manifest has it."""
        return {entry.path: entry.sha256 for entry in self.manifest.files}

    def verify(self) -> list[str]:
        """One line for each file that is missing or was changed. Raises CorruptError for events and the plan."""
        self.events()
        faults = [line for entry in self.manifest.files if (line := self._fault(entry))]
        changed = self.storage.exists("plan.json") and self._planned() != self.manifest.plan
        return [*faults, *(["plan.json is not the plan of the manifest"] if changed else [])]

    def _fault(self, entry: FileEntry) -> str:
        if not self.storage.exists(entry.path):
            return f"{entry.path} is missing"
        found = sha256(self.storage.read(entry.path))
        return "" if found == entry.sha256 else f"{entry.path} has hash {found}, the manifest says {entry.sha256}"

    # --- writing while staged

    def write_table(self, path: str, table: pa.Table) -> FileEntry:
        """Write one Parquet file and record that it is finished."""
        return self.write_bytes(path, parquet_bytes(table), table.num_rows)

    def write_bytes(self, path: str, data: bytes | pa.Buffer, rows: int = 0) -> FileEntry:
        """Write one file and record that it is finished. Raises BusyError after a take-over."""
        if self.token is not None:
            check_token(Storage(self.workspace_uri), self.token)
        entry = FileEntry(path=path, rows=rows, bytes=len(data), sha256=sha256(data))
        self.storage.write(path, data)
        self.storage.write(_entry_path(path), entry.model_dump_json().encode())
        return entry

    def finished(self, path: str) -> FileEntry | None:
        """The entry of a file that is there with the recorded hash; None means that it has to be (re)done."""
        if not (self.storage.exists(_entry_path(path)) and self.storage.exists(path)):
            return None
        try:
            entry = FileEntry.model_validate_json(self.storage.read(_entry_path(path)))
        except ValidationError:
            return None
        return entry if sha256(self.storage.read(path)) == entry.sha256 else None

    def entries(self) -> list[FileEntry]:
        """Entries of all finished files, by path."""
        folder = f"{WORK}/entries"
        return [FileEntry.model_validate_json(self.storage.read(path)) for path in self.storage.files(folder)]

    def report(self, name: str) -> StageReport | None:
        """The report of a stage if it has finished."""
        if self.sealed:
            return next((report for report in self.manifest.stages if report.name == name), None)
        path = f"{WORK}/stages/{name}.json"
        return StageReport.model_validate_json(self.storage.read(path)) if self.storage.exists(path) else None

    def once(self, name: str, stage: Callable[[], StageReport]) -> StageReport:
        """The report of a stage, run only if it has not finished before; its seconds are measured here."""
        if done := self.report(name):
            return done
        began = datetime.now(UTC)
        report = stage()
        seconds = (datetime.now(UTC) - began).total_seconds()
        report = report.model_copy(update={"name": name, "seconds": round(seconds, 3)})
        self.storage.write(f"{WORK}/stages/{name}.json", report.model_dump_json().encode())
        return report

    def seal(self, reasons: list[str], stages: list[StageReport], versions: dict[str, str]) -> Manifest:
        """Write the manifest, `held` if there are reasons, and drop the work folder."""
        manifest = Manifest(
            status="held" if reasons else "ready",
            release_id=self.release_id,
            space_id=self.space_id,
            model_id=self.plan.model_id,
            sealed_at=datetime.now(UTC),
            reasons=reasons,
            plan=self.plan,
            files=[entry for entry in self.entries() if not entry.path.startswith(f"{WORK}/")],
            stages=stages,
            versions=versions,
            old_spaces=old_spaces(stages),
        )
        if self.token is not None:
            check_token(Storage(self.workspace_uri), self.token)
        self.storage.write("manifest.json", data := manifest.to_bytes())
        self.storage.delete_tree(WORK)
        return parse_manifest(data, self.release_id)

    # --- after sealing

    def add_event(self, kind: str, **facts: Any) -> None:
        """Append a fact about a sealed release: published, canary, promoted, erased."""
        at = datetime.now(UTC)
        body = checked({"event": kind, "at": at.isoformat(), **facts})
        self.storage.write(f"{EVENTS}/{at:%Y%m%dT%H%M%S%fZ}-{kind}.json", body)

    def events(self) -> list[dict[str, Any]]:
        """All facts appended after sealing, oldest first."""
        return [read_checked(self.storage, path) for path in self.storage.files(EVENTS)]


def _entry_path(path: str) -> str:
    return f"{WORK}/entries/{path}.json"
