"""A workspace: its releases, its models, its Feast repository and the one pointer to what is live."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel

from stores.errors import BusyError, CorruptError, NotFoundError
from stores.files.checksummed_json import dump_checksummed, read_checksummed, read_facts, validated
from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import TEMPORARY, Storage
from stores.releases.lease import check_token
from stores.releases.manifest import is_release_id
from stores.releases.release import EVENTS, RELEASES, REWRITING, WORK, Plan, Release

POINTER = "current.json"
MODELS = "models"
NEXT_MODEL = f"{MODELS}/next.json"
BACKFILL = "backfill"
POINTER_CURE = f"restore it, or delete {POINTER} and run samespace promote RELEASE (samespace releases lists them)"
NEXT_MODEL_CURE = f"delete {NEXT_MODEL}, then samespace train, or name the model with [encode] model"


class _Pointer(BaseModel):
    """What the pointer must say; it may say more."""

    release_id: str
    space_id: str
    promoted_at: AwareDatetime


class _NextModel(BaseModel):
    """What the file of the next model must say."""

    model_id: str


class Workspace:
    """All that samespace keeps for one lake, below one folder or object-store prefix."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.storage = Storage(self.uri)

    def __repr__(self) -> str:
        return f"Workspace({self.uri!r})"

    @classmethod
    def open(cls, uri: str) -> "Workspace":
        """A workspace that need not hold anything yet."""
        return cls(str(uri))

    # --- releases

    def pointer(self) -> dict[str, Any] | None:
        """What is live: `{release_id, space_id, promoted_at}`; None before the first release.

        Raises CorruptError, which says the way out, for a damaged file.
        """
        if not self.storage.exists(POINTER):
            return None
        found = read_checksummed(self.storage, POINTER, POINTER_CURE)
        validated(found, _Pointer, POINTER, self.uri, POINTER_CURE)
        return found

    def current(self) -> Release:
        """The live release. Raises NotFoundError where nothing was published yet."""
        pointer = self.pointer()
        if pointer is None:
            raise NotFoundError("nothing is published yet", where=self.uri, fix="samespace nightly --lake LAKE")
        if not is_release_id(name := pointer["release_id"]):
            raise CorruptError(f"{POINTER} names no release: {name!r}", where=self.uri, fix=POINTER_CURE)
        return Release(self.uri, name)

    def release(self, release_id: str) -> Release:
        """A sealed release by id. Raises NotFoundError, naming those that there are."""
        found = Release(self.uri, release_id)
        if not found.sealed:
            there = ", ".join(release.release_id for release in self.releases()) or "none"
            raise NotFoundError(f"there is no release {release_id}", where=self.uri, expected=f"one of: {there}")
        return found

    def releases(self) -> list[Release]:
        """All sealed releases, ready and held, oldest first."""
        return [release for release in self._all() if release.sealed]

    def readable(self) -> list[Release]:
        """Those of the sealed releases whose manifest can be read; `samespace doctor` names the others."""
        return [release for release in self.releases() if _is_readable(release)]

    def staged(self) -> list[Release]:
        """Releases without a manifest, oldest first: those that a night did not seal, and half-deleted ones."""
        return [release for release in self._all() if not release.sealed]

    def half_deleted(self) -> list[Release]:
        """What a killed `gc` left of releases, oldest first: no manifest, and no night that could go on with it."""
        return [release for release in self.staged() if _is_remnant(release)]

    def _all(self) -> list[Release]:
        return [Release(self.uri, name) for name in self.release_names()]

    def release_names(self) -> list[str]:
        """Ids of all releases, sealed and staged, oldest first; folders that are no releases left out."""
        return [name for name in self.storage.folders(RELEASES) if is_release_id(name)]

    def new_release_id(self, plan_hash: str, now: datetime) -> str:
        """An id that sorts after every other one, also when the clock was moved back."""
        last = max(filter(None, map(_made_at, self.release_names())), default=None)
        if last is not None:
            now = max(now, last + timedelta(seconds=1))
        return f"{now:%Y%m%dT%H%M%SZ}-{plan_hash[:4]}"

    def stage(self, plan: Plan, token: int) -> Release:
        """Begin a release: write its plan."""
        release = Release(self.uri, plan.release_id, token)
        release.storage.write("plan.json", plan.model_dump_json(indent=1).encode())
        return release

    def remove(self, release: Release) -> None:
        """Remove a release; its manifest goes before its files, so that no reader meets half of one.

        The plan goes before the manifest, so that no night takes the rest for an unfinished release.
        """
        release.storage.delete("plan.json")
        release.storage.delete("manifest.json")
        self.storage.delete_tree(f"{RELEASES}/{release.release_id}")

    # --- models

    @property
    def models(self) -> Storage:
        """The folder with one folder for each model."""
        return self.storage.subfolder(MODELS)

    def next_model(self) -> str | None:
        """The id of the model that the next night runs; None before the first training."""
        if not self.storage.exists(NEXT_MODEL):
            return None
        return read_facts(self.storage, NEXT_MODEL, _NextModel, NEXT_MODEL_CURE).model_id

    def set_next_model(self, model_id: str) -> None:
        """Make a model the one that the next night runs."""
        if model_id not in self.models.folders():
            raise NotFoundError(f"there is no model {model_id}", where=self.models.uri, fix="samespace train")
        self.storage.write(NEXT_MODEL, dump_checksummed({"model_id": model_id}))


def _is_readable(release: Release) -> bool:
    try:
        return bool(release.manifest)
    except (CorruptError, NotFoundError):  # damaged, or dropped since the folder was listed
        return False


def _is_remnant(release: Release) -> bool:
    """Whether a release without a manifest has no plan, or files that no stage of a night recorded."""
    names = {path.partition("/")[0] for path in release.storage.files()}
    return "plan.json" not in names or (WORK not in names and names != {"plan.json"})


def _made_at(name: str) -> datetime | None:
    """The time in a release's id; None for a folder of another origin that only looks like one."""
    try:
        return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def move_pointer(workspace: Workspace, release: Release, at: datetime) -> None:
    """Make a release live, as of `at`. Raises BusyError if another command has the workspace or moved the pointer.

    Effective times strictly increase, so a pointer that is not older than `at` belongs to a newer move than this one.
    """
    storage = workspace.storage
    before = storage.read(POINTER) if storage.exists(POINTER) else None
    moved = promoted_at(workspace)
    if moved is not None and moved >= at:
        raise BusyError(
            f"a newer move made {workspace.current().release_id} live",
            where=workspace.uri,
            fix="leave the workspace to the newer command",
        )
    if release.token is not None:
        check_token(storage, release.token)
    body: dict[str, Any] = {
        "release_id": release.release_id, "space_id": release.space_id, "promoted_at": at.isoformat()
    }  # fmt: skip
    if not replace_if(storage, POINTER, dump_checksummed(body), before):
        raise BusyError("another command moved the pointer in this moment", where=workspace.uri, fix="try again")


def promoted_at(workspace: Workspace) -> datetime | None:
    """When the live release became live; None before the first."""
    pointer = workspace.pointer()
    return None if pointer is None else datetime.fromisoformat(pointer["promoted_at"])


def remove_temp_files(storage: Storage, folder: str = "", before: datetime | None = None) -> None:
    """Remove temporary files below a folder; with `before` only those that were last written earlier."""
    for info in storage.infos(folder):
        if info.base_name.startswith(TEMPORARY) and (before is None or info.mtime < before):
            storage.delete(info.path)


def remove_work_files(release: Release) -> None:
    """Remove a release's temporary files, and the work folder of a sealed one; callers hold the lease."""
    remove_temp_files(release.storage)
    if release.sealed:
        release.storage.delete_tree(WORK)


def remove_unlisted(release: Release) -> None:
    """Remove whatever is beside plan, manifest and events of a sealed release that the manifest does not list."""
    remove_work_files(release)
    known = {"plan.json", "manifest.json", REWRITING, *(entry.path for entry in release.manifest.files)}
    for path in release.storage.files():
        if path not in known and not path.startswith(f"{EVENTS}/"):
            release.storage.delete(path)
