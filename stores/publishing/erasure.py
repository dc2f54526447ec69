"""Erase a member: from every release, the Feast history, the online store, dead letters and texts."""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from stores.errors import BusyError, CorruptError, NotFoundError, require_text
from stores.feast.feature_views import FOLDER, HISTORY
from stores.feast.offline_store import WRITING_SUFFIX, rewrite_history
from stores.feast.online_store import OnlineStoreWriter
from stores.feast.ownership import claim_ownership
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.files.checksummed_json import dump_checksummed, read_checksummed, read_facts
from stores.files.filesystem import Storage, sha256
from stores.files.parquet import parquet_bytes, table_of
from stores.publishing.journal import published_state
from stores.publishing.suppression_list import read_suppression_list, suppress
from stores.releases.lease import check_token
from stores.releases.manifest import MANIFEST
from stores.releases.release import EVENT_CURE, EVENTS, REWRITING, FileEntry, Manifest, Release
from stores.releases.workspace import BACKFILL, Workspace, remove_temp_files, remove_unlisted
from stores.schema import MEMBER_ID, VALUE, dead_letter_schema
from stores.settings import Settings

TEXT_KEYS = {"examples", "failed", "id_examples", "message", "not_finite_ids", "reasons", "why", "wrong"}
"""Keys below which texts for people are; all others hold figures, spaces, releases, names of checks."""
MIN_ID_LENGTH = 4
"""A string id of so many characters is searched for in whole texts; others only where a text says what they are."""
ERASED_TEXT = "(erased)"


def id_redactor(member_id: int | str) -> Callable[[Any], Any]:
    """A function that takes an id, as a whole word, out of the `TEXTS` of anything that JSON can hold."""
    text = str(member_id)
    telling = isinstance(member_id, str) and len(text) >= MIN_ID_LENGTH
    before = r"(?<![\w-])()" if telling else r"(\bmembers? |\bfor example |, )"
    pattern = re.compile(rf"{before}{re.escape(text)}(?![\w-]|\.\d)")

    def scrub(found: Any, texts: bool = False) -> Any:
        if isinstance(found, dict):
            return {key: scrub(value, texts or key in TEXT_KEYS) for key, value in found.items()}
        if isinstance(found, list):
            return [scrub(value, texts) for value in found]
        if texts and isinstance(found, str):
            return ERASED_TEXT if text and found == text else pattern.sub(rf"\g<1>{ERASED_TEXT}", found)
        return found

    return scrub


ERASE_JOURNAL = "journal/erase.json"
CURE = f"delete {ERASE_JOURNAL}, then run samespace erase again for the member of that erasure"
DEAD_LETTER_PREFIX = "dead_letter/"
PAGE = "report.html"
PageWriter = Callable[[Release], Any]
"""Writes the report of a release anew."""


class Erasure(Settings):
    """An erasure under way: whom, why, and what it has decided so far, so that it is completed as it was begun.

    `revisions` are, by release, the revision that it is sealed as; 0 where it had nothing of the member. `histories`
    are the files of Feast's history that it rewrites, `dropped` the unfinished releases, `pages` the releases whose
    report is written anew.
    """

    name: str
    member_id: int | str
    subject: str
    why: str = ""
    revisions: dict[str, int] = Field(default_factory=dict)
    histories: list[str] = Field(default_factory=list)
    dropped: list[str] = Field(default_factory=list)
    pages: list[str] = Field(default_factory=list)


class Receipt(Settings):
    """What was done: the member's salted hash, the revision of each release that changed, and what was rewritten."""

    subject: str
    releases: dict[str, int]
    history_files: int
    views: list[str]
    dropped_unfinished: list[str]


@dataclass(frozen=True)
class _Run:
    """The workspace that an erasure runs in, with the lease's token, and who writes reports anew."""

    workspace: Workspace
    config: PublishConfig
    token: int | None
    write_page: PageWriter | None

    def check(self) -> None:
        if self.token is not None:
            check_token(self.workspace.storage, self.token)

    def note(self, begun: Erasure) -> Erasure:
        """Write the journal."""
        self.workspace.storage.write(ERASE_JOURNAL, dump_checksummed(begun.model_dump(mode="json")))
        return begun


def erase(
    workspace: Workspace,
    member: str,
    config: PublishConfig,
    token: int | None = None,
    why: str = "",
    write_page: PageWriter | None = None,
) -> Receipt:
    """Remove a member everywhere and keep it out of later nights; callers hold the lease and have recovered.

    `member` is the id as text. Reports are removed; `write_page` writes those that there were anew. Raises
    NotFoundError where no release is sealed, StoreError where a store refuses, CorruptError for a damaged file (the
    journal stays, run again).
    """
    member_id = _typed(workspace, member)
    told = id_redactor(member_id)({"why": why})["why"]
    claim_ownership(FeatureRepository(workspace.storage, config), published_state(workspace.storage))
    run = _Run(workspace, config, token, write_page)
    name, subject = secrets.token_hex(8), suppress(workspace.storage, member_id)
    pages = [one.release_id for one in workspace.releases() if one.storage.exists(PAGE)]
    begun = run.note(Erasure(name=name, member_id=member_id, subject=subject, why=told, pages=pages))
    return _finish(run, begun)


def resume_erasure(
    workspace: Workspace, config: PublishConfig, token: int | None, write_page: PageWriter | None = None
) -> Receipt | None:
    """Complete an erasure that was interrupted; its receipt, None where there was none. Raises as `erase`."""
    begun = read_erasure(workspace.storage)
    if begun is None:
        return None
    claim_ownership(FeatureRepository(workspace.storage, config), published_state(workspace.storage))
    suppress(workspace.storage, begun.member_id)
    return _finish(_Run(workspace, config, token, write_page), begun)


def read_erasure(storage: Storage) -> Erasure | None:
    """The erasure that was interrupted, or that another process is at. Raises CorruptError for a damaged journal."""
    return read_facts(storage, ERASE_JOURNAL, Erasure, CURE) if storage.exists(ERASE_JOURNAL) else None


def subject_of(workspace: Workspace, member: str) -> str:
    """The salted hash by which receipts name a member; "" where no member was ever erased. Raises as `erase`."""
    listed = read_suppression_list(workspace.storage)
    return listed.hash_id(_typed(workspace, member)) if listed else ""


def refuse_during_erasure(workspace: Workspace) -> None:
    """Raise BusyError while an erasure is under way or waits to be completed: a page written now may show it."""
    if workspace.storage.exists(ERASE_JOURNAL):
        raise BusyError(
            "a member is being erased, or an erasure was interrupted",
            where=workspace.uri,
            fix="wait for it; the next nightly, promote, rollback or erase completes one that was interrupted",
        )


def _finish(run: _Run, begun: Erasure) -> Receipt:
    storage = run.workspace.storage
    staged = [release.release_id for release in run.workspace.staged()]
    begun = run.note(begun.model_copy(update={"dropped": sorted({*begun.dropped, *staged})}))
    _drop_unlisted(run)
    for release in run.workspace.releases():
        run.check()
        remove_unlisted(release)
        begun = _erase_release(run, release, begun)
    begun = _erase_histories(run, begun)
    views = _erase_online(FeatureRepository(storage, run.config), begun.member_id)
    receipt = Receipt(
        subject=begun.subject,
        releases={name: revision for name, revision in begun.revisions.items() if revision},
        history_files=len(begun.histories),
        views=views,
        dropped_unfinished=begun.dropped,
    )
    run.check()
    _give_receipts(run.workspace, begun, receipt)
    failed = _write_pages(run, begun)
    storage.delete(ERASE_JOURNAL)
    if failed is not None:
        raise failed
    return receipt


def _write_pages(run: _Run, begun: Erasure) -> Exception | None:
    """Write the reports that there were anew; the first error, which leaves nothing of the member unerased."""
    failed: Exception | None = None
    for release in run.workspace.releases():
        if run.write_page and release.release_id in begun.pages:
            try:
                run.write_page(release)
            except Exception as error:
                failed = failed or error
    return failed


def _drop_unlisted(run: _Run) -> None:
    """Remove unfinished nights and backfills, and temporary files beside the journal and in the Feast repository."""
    for release in run.workspace.staged():
        run.workspace.remove(release)
    run.workspace.storage.delete_tree(BACKFILL)
    for folder in ("journal", FOLDER):
        remove_temp_files(run.workspace.storage, folder)


def _give_receipts(workspace: Workspace, begun: Erasure, receipt: Receipt) -> None:
    """Append the receipt to the events of each release that changed, once."""
    for release_id in receipt.releases:
        release = Release(workspace.uri, release_id)
        if release.sealed and not any(event.get("erasure") == begun.name for event in release.events()):
            release.add_event("erased", why=begun.why, erasure=begun.name, **receipt.model_dump())


def _typed(workspace: Workspace, member: str) -> int | str:
    """The id in the type that the workspace's ids have, text where any release has text.

    Raises NotFoundError where nothing is sealed, or where no release can have such an id.
    """
    require_text(member)
    holding = [release for release in workspace.releases() if release.storage.files("members")]
    if not holding:
        raise NotFoundError("nothing is published yet", where=workspace.uri)
    kinds = {release.members().schema.field(MEMBER_ID).type for release in holding}
    if not all(pa.types.is_integer(kind) for kind in kinds):
        return member
    if re.fullmatch(r"-?\d{1,19}", member) and abs(int(member)) < 2**63:
        return int(member)
    raise NotFoundError(
        f"there can be no member {member!r}", where=workspace.uri, expected=f"an {' or '.join(map(str, kinds))}"
    )


# --- a release


def _erase_release(run: _Run, release: Release, begun: Erasure) -> Erasure:
    """Rewrite a release without the member; the erasure, which knows the release's next revision by then."""
    before, noted = release.manifest, begun.revisions.get(release.release_id)
    if noted in (0, before.revision):
        release.storage.delete(REWRITING)
        return begun  # done before the interruption
    scrub = id_redactor(begun.member_id)
    made = list(_rewritten(release, begun.member_id))
    texts = scrub(before.model_dump(mode="json", include={"stages", "reasons"}))
    scrubbed = Manifest.model_validate({**before.model_dump(), **texts})
    events = _scrubbed(release, scrub)
    if noted is None:
        revision = before.revision + 1 if made or events or scrubbed != before else 0
        begun = run.note(begun.model_copy(update={"revisions": {**begun.revisions, release.release_id: revision}}))
    if begun.revisions[release.release_id] == 0:
        return begun
    run.check()
    entries = {entry.path: entry for entry in before.files} | {entry.path: entry for _, entry in made}
    if made:
        rewriting = [entry.model_dump() for _, entry in made]
        release.storage.write(REWRITING, dump_checksummed({"files": rewriting}))
    for data, entry in made:
        if data is not None:
            release.storage.write(entry.path, data)
    for path, facts in events.items():
        release.storage.write(path, dump_checksummed(facts))
    sealed = {"files": list(entries.values()), "revision": begun.revisions[release.release_id]}
    release.storage.write(MANIFEST, scrubbed.model_copy(update=sealed).to_bytes())
    release.storage.delete(REWRITING)
    return begun


def _rewritten(release: Release, member_id: int | str) -> Iterator[tuple[pa.Buffer | None, FileEntry]]:
    """New bytes and entry of every Parquet file that holds the member, or held it: then it is written already."""
    planned = {entry.path: entry for entry in release.rewriting()}
    for entry in release.manifest.files:
        if not entry.path.endswith(".parquet"):
            continue
        found = sha256(data := release.storage.read(entry.path))
        there = next((one for one in (entry, planned.get(entry.path)) if one and one.sha256 == found), None)
        if there is None:
            raise CorruptError(
                f"{entry.path} has hash {found}, the manifest says {entry.sha256}",
                where=release.storage.uri,
                fix="restore the file, or drop the release with samespace gc, and run erase again",
            )
        kept = drop_member(table_of(data, entry.path), member_id, entry.path.startswith(DEAD_LETTER_PREFIX))
        if kept is not None:
            made = parquet_bytes(kept)
            yield made, FileEntry(path=entry.path, rows=kept.num_rows, bytes=len(made), sha256=sha256(made))
        elif there is not entry:
            yield None, there


def _scrubbed(release: Release, scrub: Callable[[Any], Any]) -> dict[str, Any]:
    """By path, the events that lose the id."""
    events = {path: read_checksummed(release.storage, path, EVENT_CURE) for path in release.storage.files(EVENTS)}
    after = {path: scrub(facts) for path, facts in events.items()}
    return {path: facts for path, facts in after.items() if facts != events[path]}


def drop_member(table: pa.Table, member_id: int | str, letters: bool = False) -> pa.Table | None:
    """A table without a member's rows; None where it has none. Of dead letters, those that show the id go."""
    if letters and table.schema.names == dead_letter_schema().names:
        shown = pc.equal(table[VALUE], str(member_id)).fill_null(False)
        named = pc.equal(table["column"], MEMBER_ID).fill_null(False)
        gone = pc.and_(shown, named) if isinstance(member_id, int) else shown
    elif MEMBER_ID in table.column_names:
        kind = table.schema.field(MEMBER_ID).type
        if (value := _in_type(member_id, kind)) is None:
            return None
        gone = pc.equal(table[MEMBER_ID], pa.scalar(value, kind)).fill_null(False)
    else:
        return None
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else None


def _in_type(member_id: int | str, kind: pa.DataType) -> int | str | None:
    """Return the id as a table of another id type has it, None where it cannot.

    Ids of one type are published from a workspace; a release that was held may have the other.
    """
    if not pa.types.is_integer(kind):
        return str(member_id)
    text = str(member_id)
    if re.fullmatch(r"-?\d{1,19}", text) and str(int(text)) == text and -(2**63) <= int(text) < 2**63:
        return int(text)
    return None


# --- Feast


def _erase_histories(run: _Run, begun: Erasure) -> Erasure:
    """Rewrite the files of the history that hold the member; the erasure, which knows all of them by then."""
    storage = run.workspace.storage
    for path in storage.files(HISTORY):
        if path.endswith(WRITING_SUFFIX):  # a move was killed while it wrote
            storage.delete(path)
    held = _holding(storage, (path for path in storage.files(HISTORY) if path.endswith(".parquet")), begun.member_id)
    begun = run.note(begun.model_copy(update={"histories": sorted({*begun.histories, *held})}))
    for path in held:
        run.check()
        _erase_history(run.workspace, path, begun.member_id)
    return begun


def _holding(storage: Storage, paths: Iterable[str], member_id: int | str) -> list[str]:
    """The files with rows of the member; only the column of ids is read."""
    return [path for path in paths if _holds(storage, path, member_id)]


def _holds(storage: Storage, path: str, member_id: int | str) -> bool:
    with storage.parquet(path) as file:
        known = MEMBER_ID in file.schema_arrow.names
        return known and drop_member(file.read([MEMBER_ID]), member_id) is not None


def _erase_history(workspace: Workspace, path: str, member_id: int | str) -> None:
    kept = drop_member(workspace.storage.read_table(path), member_id)
    if kept is not None:
        rewrite_history(workspace.storage, path, kept)


def _erase_online(repository: FeatureRepository, member_id: int | str) -> list[str]:
    """Remove the member from every online view of members; their names."""
    described = repository.described()
    names = [name for name, view in described["views"].items() if view["entity"] == "member"]
    if names:
        kind = pa.int64() if described["entities"]["member"]["id"] == "int64" else pa.string()
        if (value := _in_type(member_id, kind)) is None:
            return []
        with OnlineStoreWriter(repository, names) as views:
            views.erase(MEMBER_ID, pa.array([value], kind))
    return names
