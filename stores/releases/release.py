"""A release: an immutable, published set of members, titles, transform and index of one model state.

While it is staged, stages write files through `write_table` and `write_bytes`; each finished file
leaves an entry with its hash, which is how an interrupted night knows what need not be redone. `seal`
writes `manifest.json` last: a release without one does not exist for readers.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ValidationError

from stores.errors import CorruptError, NotFoundError, UsageError
from stores.files.checksummed_json import dump_checksummed, object_of, read_checksummed, validated
from stores.files.filesystem import Storage, absolute, sha256
from stores.files.parquet import parquet_bytes, table_of
from stores.releases.lease import check_token
from stores.releases.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    Plan,
    StageReport,
    is_release_id,
    parse_manifest,
    previous_spaces_of,
)

if TYPE_CHECKING:
    import pyarrow.dataset as ds

__all__ = ["EVENTS", "FORMAT_VERSION", "RELEASES", "WORK", "FileEntry", "Manifest", "Plan", "Release", "StageReport"]

RELEASES = "releases"
WORK = "work"
EVENTS = "events"
REWRITING = "rewriting.json"
"""Beside the manifest while an erasure is under way: the files that it writes anew, as they will be."""
PLAN_CURE = "restore it, or remove the folder of this release, which no night finished; the next night begins anew"
EVENT_CURE = "restore it, or delete it; a release without its event counts as never published"
_READS = 8
"""A file is read again so often where erasures write it anew while it is read."""


class _Rewriting(BaseModel):
    """What the file beside the manifest says while an erasure is under way."""

    files: list[FileEntry] = []


class _Event(BaseModel):
    """What every event must say; it says more."""

    event: str
    at: AwareDatetime
    effective_at: AwareDatetime | None = None


class Release:
    """One release of a workspace, staged or sealed; pickles, so it travels to Ray workers.

    `token` is the fencing token of the night that writes it: once another night has taken the
    workspace over, every write raises BusyError.
    """

    def __init__(self, workspace_uri: str, release_id: str, token: int | None = None) -> None:
        if not is_release_id(release_id):
            raise UsageError(f"not a release id: {release_id!r}", expected="for example 20260721T020000Z-3f9a")
        self.workspace_uri, self.release_id, self.token = workspace_uri, release_id, token
        self.storage = Storage(workspace_uri).subfolder(RELEASES, release_id)

    def __repr__(self) -> str:
        return f"Release({self.release_id!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: self.__dict__[name] for name in ("release_id", "token", "storage")}
        return {"workspace_uri": absolute(self.workspace_uri), **kept}

    def other(self, release_id: str) -> "Release":
        """Another release of the same workspace."""
        return Release(self.workspace_uri, release_id)

    # --- reading

    @cached_property
    def plan(self) -> Plan:
        """What the night set out to do. Raises CorruptError where that cannot be read."""
        return self.manifest.plan if self.sealed else self._planned()

    def _planned(self) -> Plan:
        facts = object_of(self.storage.read("plan.json"), "plan.json", self.storage.uri, PLAN_CURE)
        return validated(facts, Plan, "plan.json", self.storage.uri, PLAN_CURE)

    @property
    def sealed(self) -> bool:
        """Whether the release exists for readers."""
        return self.storage.exists(MANIFEST)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest. Raises NotFoundError where there is none, CorruptError where it cannot be read."""
        if not self.sealed:
            raise NotFoundError(f"there is no sealed release {self.release_id}", where=self.workspace_uri)
        return parse_manifest(self.storage.read(MANIFEST), self.release_id)

    @property
    def space_id(self) -> str:
        """The space of the vectors: the alignment's verdict once there is one, before that the plan's."""
        if self.sealed:
            return self.manifest.space_id
        report = self.stage_report("align")
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
        """One file. Raises CorruptError unless, once the release is sealed, its bytes are those that were written.

        An erasure may write the file anew and seal the next revision meanwhile: then the bytes are those of either.
        """
        data = self._present(path)
        if not self.sealed:
            return data
        found, same = sha256(data), 0
        for _ in range(_READS):
            if found == self.hashes.get(path) or self._is_rewritten(path, found):
                return data
            self._forget_manifest()  # an erasure may have sealed the next revision meanwhile
            if found == self.hashes.get(path):
                return data
            data, before = self._present(path), found
            same = same + 1 if (found := sha256(data)) == before else 0
            if same == 2:
                break
        raise CorruptError(
            f"{path} has hash {found}, the manifest says {self.hashes.get(path) or 'nothing of it'}",
            where=self.storage.uri,
            fix="samespace doctor --verify names every damaged file; restore it, or roll back",
        )

    def _present(self, path: str) -> bytes:
        """The bytes of a file. Raises NotFoundError where the release was dropped while it was read."""
        was_sealed = "manifest" in self.__dict__
        try:
            return self.storage.read(path)
        except CorruptError as error:
            if was_sealed and not self.sealed:
                raise NotFoundError(
                    f"release {self.release_id} was dropped while it was read", where=self.workspace_uri,
                    fix="samespace releases lists those that there are",
                ) from error  # fmt: skip
            raise

    def _is_rewritten(self, path: str, found: str) -> bool:
        """Whether these are the bytes of a file as an erasure that is under way, or was killed, writes it anew."""
        try:
            return any((entry.path, entry.sha256) == (path, found) for entry in self.rewriting())
        except CorruptError:
            return False

    def rewriting(self) -> list[FileEntry]:
        """Files that an erasure writes anew, as they will be; until it is done each is as here or as in the manifest.

        Raises CorruptError where the file that says so is damaged.
        """
        try:
            facts = read_checksummed(self.storage, REWRITING) if self.storage.exists(REWRITING) else {}
        except CorruptError:
            if self.storage.exists(REWRITING):
                raise
            return []  # the erasure ended in this moment
        return validated(facts, _Rewriting, REWRITING, self.storage.uri).files

    def _forget_manifest(self) -> None:
        for name in ("manifest", "hashes"):
            self.__dict__.pop(name, None)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256, in hexadecimal, of every file of a sealed release by its path, as the manifest has it."""
        return {entry.path: entry.sha256 for entry in self.manifest.files}

    def verify(self) -> list[str]:
        """One line for each file, the plan and events among them, that is missing or was changed.

        Raises CorruptError where the manifest cannot be read.
        """
        faults = [line for entry in self.manifest.files if (line := self._fault(entry))]
        for path in self.storage.files(EVENTS):
            try:
                self._event(path)
            except CorruptError as error:
                faults.append(error.what)
        return [*faults, *self._plan_fault()]

    def _plan_fault(self) -> list[str]:
        if not self.storage.exists("plan.json"):
            return []
        try:
            changed = self._planned() != self.manifest.plan
        except CorruptError as error:
            return [error.what]
        return ["plan.json is not the plan of the manifest"] if changed else []

    def _fault(self, entry: FileEntry) -> str:
        """What is wrong with a file; one that an erasure writes anew meanwhile is looked at again."""
        try:
            self.read_bytes(entry.path)
        except CorruptError as error:
            return error.what.removeprefix("the file ")
        return ""

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

    def completed_file(self, path: str) -> FileEntry | None:
        """The entry of a file that is there with the recorded hash; None means that it has to be (re)done."""
        if not (self.storage.exists(_entry_path(path)) and self.storage.exists(path)):
            return None
        try:
            entry = FileEntry.model_validate_json(self.storage.read(_entry_path(path)))
        except ValidationError:
            return None
        return entry if sha256(self.storage.read(path)) == entry.sha256 else None

    def completed_files(self) -> list[FileEntry]:
        """Entries of all finished files, by path. Raises CorruptError for a damaged one."""
        where = self.storage.uri
        found = {path: self.storage.read(path) for path in self.storage.files(f"{WORK}/entries")}
        objects = {path: object_of(data, path, where, PLAN_CURE) for path, data in found.items()}
        return [validated(facts, FileEntry, path, where, PLAN_CURE) for path, facts in objects.items()]

    def stage_report(self, name: str) -> StageReport | None:
        """The report of a stage if it has finished. Raises CorruptError for a damaged one."""
        if self.sealed:
            return next((report for report in self.manifest.stages if report.name == name), None)
        path = f"{WORK}/stages/{name}.json"
        if not self.storage.exists(path):
            return None
        facts = object_of(self.storage.read(path), path, self.storage.uri, PLAN_CURE)
        return validated(facts, StageReport, path, self.storage.uri, PLAN_CURE)

    def run_stage(self, name: str, stage: Callable[[], StageReport]) -> StageReport:
        """The report of a stage, run only if it has not finished before; its seconds are measured here."""
        if done := self.stage_report(name):
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
            files=[entry for entry in self.completed_files() if not entry.path.startswith(f"{WORK}/")],
            stages=stages,
            versions=versions,
            previous_spaces=previous_spaces_of(stages),
        )
        if self.token is not None:
            check_token(Storage(self.workspace_uri), self.token)
        self.storage.write(MANIFEST, data := manifest.to_bytes())
        self.storage.delete_tree(WORK)
        return parse_manifest(data, self.release_id)

    # --- after sealing

    def add_event(self, kind: str, **facts: Any) -> None:
        """Append a fact about a sealed release: published, readback, promoted, erased.

        Its time is later than that of every earlier event of the release, also where the clock was moved back.
        """
        named = [time for path in self.storage.files(EVENTS) if (time := _time_of(path)) is not None]
        at = max([datetime.now(UTC), *(time + timedelta(microseconds=1) for time in named)])
        body = dump_checksummed({"event": kind, "at": at.isoformat(), **facts})
        self.storage.write(f"{EVENTS}/{at:{_STAMP}}-{kind}.json", body)

    def events(self) -> list[dict[str, Any]]:
        """All facts appended after sealing, oldest first. Raises CorruptError for a damaged one."""
        return [self._event(path) for path in self.storage.files(EVENTS)]

    def _event(self, path: str) -> dict[str, Any]:
        facts = read_checksummed(self.storage, path, EVENT_CURE)
        validated(facts, _Event, path, self.storage.uri, EVENT_CURE)
        return facts


_STAMP = "%Y%m%dT%H%M%S%fZ"


def _time_of(event: str) -> datetime | None:
    """The time in the name of an event's file; None for a file of another origin."""
    try:
        return datetime.strptime(event.rsplit("/", 1)[-1].partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def _entry_path(path: str) -> str:
    return f"{WORK}/entries/{path}.json"
