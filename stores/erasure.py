"""Erasing a member: from every release, the Feast history, the online store, dead letters and texts.

The suppression list comes first, so that no later night brings the member back. Each release is rewritten file by
file and sealed anew as its next revision; a journal holds the hashes of the files to be, so that an erasure which
was interrupted goes on, and a damaged file is not taken for a rewritten one. Whatever no manifest lists (the report,
backfills, what killed processes left) goes unread. What stays is a receipt among the release's events, which names the
member by a salted hash only.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from stores.checked_json import checked, read_checked
from stores.columns import MEMBER_ID, VALUE, dead_letter_schema
from stores.errors import CorruptError, NotFoundError
from stores.features.history import WRITING, rewrite_history
from stores.features.online import OnlineViews
from stores.features.ownership import claim
from stores.features.repository import FeatureRepository, PublishConfig
from stores.features.views import FOLDER, HISTORY
from stores.journal import live
from stores.lease import check_token
from stores.leftovers import keep_listed, sweep
from stores.parquet import parquet_bytes, table_of
from stores.release import EVENTS, FileEntry, Manifest, Release
from stores.scrubbing import scrubber
from stores.settings import Settings
from stores.storage import sha256
from stores.suppression import suppress
from stores.workspace import BACKFILL, Workspace

JOURNAL = "journal/erase.json"
LETTERS = "dead_letter/"


class Erasure(Settings):
    """An erasure under way: whom, why, and the hashes of the files that it is about to write, by release."""

    member_id: int | str
    subject: str
    why: str = ""
    planned: dict[str, dict[str, str]] = Field(default_factory=dict)


class Receipt(Settings):
    """What was done: the member's salted hash, the revision of each release that changed, and what was rewritten."""

    subject: str
    releases: dict[str, int]
    history_files: int
    views: list[str]
    dropped_unfinished: list[str]


def erase(workspace: Workspace, member: str, config: PublishConfig, token: int | None = None, why: str = "") -> Receipt:
    """Remove a member everywhere and keep it out of later nights; callers hold the lease and have recovered.

    `member` is the id as text. Raises NotFoundError where no release is sealed, StoreError where a store refuses,
    CorruptError for a damaged file (the journal stays, run again).
    """
    member_id = _typed(workspace, member)
    told = scrubber(member_id)({"why": why})["why"]
    claim(FeatureRepository(workspace.storage, config), live(workspace.storage))
    begun = Erasure(member_id=member_id, subject=suppress(workspace.storage, member_id), why=told)
    _note(workspace, begun)
    return _finish(workspace, begun, config, token)


def resume(workspace: Workspace, config: PublishConfig, token: int | None) -> None:
    """Go on with an erasure that was interrupted, if there is one."""
    if workspace.storage.exists(JOURNAL):
        begun = Erasure.model_validate_json(workspace.storage.read(JOURNAL))
        claim(FeatureRepository(workspace.storage, config), live(workspace.storage))
        suppress(workspace.storage, begun.member_id)
        _finish(workspace, begun, config, token)


def _finish(workspace: Workspace, begun: Erasure, config: PublishConfig, token: int | None) -> Receipt:
    def check() -> None:
        if token is not None:
            check_token(workspace.storage, token)

    unfinished = [release.release_id for release in workspace.staged()]
    for release in workspace.staged():
        workspace.remove(release)
    workspace.storage.delete_tree(BACKFILL)
    for folder in ("journal", FOLDER):
        sweep(workspace.storage, folder)
    changed = {}
    for release in workspace.releases():
        check()
        keep_listed(release)
        if revision := _erase_release(workspace, release, begun):
            changed[release.release_id] = revision
    histories = sum(_erase_history(workspace, path, begun.member_id) for path in workspace.storage.files(HISTORY))
    views = _erase_online(FeatureRepository(workspace.storage, config), begun.member_id)
    receipt = Receipt(
        subject=begun.subject, releases=changed, history_files=histories, views=views, dropped_unfinished=unfinished
    )
    for release_id in changed:
        release = Release(workspace.uri, release_id)
        if not any(event.get("subject") == begun.subject for event in release.events()):
            release.add_event("erased", why=begun.why, **receipt.model_dump())
    workspace.storage.delete(JOURNAL)
    return receipt


def _typed(workspace: Workspace, member: str) -> int | str:
    """The id in the type that the workspace's ids have. Raises NotFoundError where nothing is sealed."""
    for release in reversed(workspace.releases()):
        if release.storage.files("members"):
            kind = release.members().schema.field(MEMBER_ID).type
            if not pa.types.is_integer(kind):
                return member
            if re.fullmatch(r"-?\d{1,19}", member) and abs(int(member)) < 2**63:
                return int(member)
            raise NotFoundError(f"there can be no member {member!r}", where=workspace.uri, expected=f"an {kind}")
    raise NotFoundError("nothing is published yet", where=workspace.uri)


# --- a release


def _erase_release(workspace: Workspace, release: Release, begun: Erasure) -> int:
    """Rewrite a release without the member; its new revision, 0 where it had nothing of the member."""
    planned = begun.planned.get(release.release_id)
    if planned is None:
        made = {path: data for path, data, _ in _rewritten(release, begun.member_id, {})}
        planned = {path: sha256(data) for path, data in made.items()}
        begun.planned[release.release_id] = planned
        _note(workspace, begun)
    entries = {entry.path: entry for entry in release.manifest.files}
    for path, data, rows in _rewritten(release, begun.member_id, planned):
        release.storage.write(path, data)
        entries[path] = FileEntry(path=path, rows=rows, bytes=len(data), sha256=sha256(data))
    for path in planned:
        if entries[path].sha256 != planned[path]:  # written before the interruption
            data = release.storage.read(path)
            rows = pq.read_metadata(pa.BufferReader(data)).num_rows
            entries[path] = FileEntry(path=path, rows=rows, bytes=len(data), sha256=planned[path])
    return _reseal(release, list(entries.values()), begun)


def _rewritten(release: Release, member_id: int | str, done: dict[str, str]) -> Iterator[tuple[str, pa.Buffer, int]]:
    """Path, new bytes and rows of every Parquet file that holds the member; those in `done` may be written already."""
    for entry in release.manifest.files:
        if not entry.path.endswith(".parquet"):
            continue
        found = sha256(data := release.storage.read(entry.path))
        if found == done.get(entry.path):
            continue
        if found != entry.sha256:
            raise CorruptError(
                f"{entry.path} has hash {found}, the manifest says {entry.sha256}",
                where=release.storage.uri,
                fix="restore the file, or drop the release with samespace gc, and run erase again",
            )
        kept = without(table_of(data, entry.path), member_id, entry.path.startswith(LETTERS))
        if kept is not None:
            yield entry.path, parquet_bytes(kept), kept.num_rows


def _reseal(release: Release, files: list[FileEntry], begun: Erasure) -> int:
    """Write the next revision of the manifest; texts beside it lose the id as well."""
    scrub = scrubber(begun.member_id)
    before = release.manifest
    texts = scrub(before.model_dump(mode="json", include={"stages", "reasons"}))
    after = before.model_copy(update={"files": files})
    touched = Manifest.model_validate({**after.model_dump(), **texts})
    scrubbed = [_scrub_file(release, path, scrub) for path in release.storage.files(EVENTS)]
    if touched == before and not any(scrubbed):
        return before.revision if begun.planned.get(release.release_id) else 0  # sealed before the interruption
    sealed = touched.model_copy(update={"revision": before.revision + 1})
    release.storage.write("manifest.json", sealed.to_bytes())
    return sealed.revision


def _scrub_file(release: Release, path: str, scrub: Callable[[Any], Any]) -> bool:
    before = read_checked(release.storage, path)
    after = scrub(before)
    if after != before:
        release.storage.write(path, checked(after))
    return bool(after != before)


def without(table: pa.Table, member_id: int | str, letters: bool = False) -> pa.Table | None:
    """A table without a member's rows; None where it has none. Of dead letters, those that show the id go."""
    if letters and table.schema.names == dead_letter_schema().names:
        shown = pc.equal(table[VALUE], str(member_id)).fill_null(False)
        named = pc.equal(table["column"], MEMBER_ID).fill_null(False)
        gone = pc.and_(shown, named) if isinstance(member_id, int) else shown
    elif MEMBER_ID in table.column_names:
        gone = pc.equal(table[MEMBER_ID], pa.scalar(member_id, table.schema.field(MEMBER_ID).type)).fill_null(False)
    else:
        return None
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else None


# --- Feast


def _erase_history(workspace: Workspace, path: str, member_id: int | str) -> bool:
    if path.endswith(WRITING):  # a move was killed while it wrote
        workspace.storage.delete(path)
    kept = without(workspace.storage.read_table(path), member_id) if path.endswith(".parquet") else None
    if kept is not None:
        rewrite_history(workspace.storage, path, kept)
    return kept is not None


def _erase_online(repository: FeatureRepository, member_id: int | str) -> list[str]:
    """Remove the member from every online view of members; their names."""
    described = repository.described()
    names = [name for name, view in described["views"].items() if view["entity"] == "member"]
    if names:
        kind = pa.int64() if described["entities"]["member"]["id"] == "int64" else pa.string()
        with OnlineViews(repository, names) as views:
            views.erase(MEMBER_ID, pa.array([member_id], kind))
    return names


def _note(workspace: Workspace, begun: Erasure) -> None:
    workspace.storage.write(JOURNAL, begun.model_dump_json().encode())
