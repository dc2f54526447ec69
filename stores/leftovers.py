"""What a process that was killed leaves: temporary files, the work of a release that was sealed.

Readers never meet any of it, but it is bytes on a disk, and vectors of members among them.
"""

from datetime import datetime

from stores.release import EVENTS, REWRITING, WORK, Release
from stores.storage import TEMPORARY, Storage


def sweep(storage: Storage, folder: str = "", before: datetime | None = None) -> None:
    """Remove temporary files below a folder; with `before` only those that were last written earlier."""
    for info in storage.infos(folder):
        if info.base_name.startswith(TEMPORARY) and (before is None or info.mtime < before):
            storage.delete(info.path)


def tidy(release: Release) -> None:
    """Remove a release's temporary files, and the work folder of a sealed one; callers hold the lease."""
    sweep(release.storage)
    if release.sealed:
        release.storage.delete_tree(WORK)


def keep_listed(release: Release) -> None:
    """Remove whatever is beside plan, manifest and events of a sealed release that the manifest does not list."""
    tidy(release)
    known = {"plan.json", "manifest.json", REWRITING, *(entry.path for entry in release.manifest.files)}
    for path in release.storage.files():
        if path not in known and not path.startswith(f"{EVENTS}/"):
            release.storage.delete(path)
