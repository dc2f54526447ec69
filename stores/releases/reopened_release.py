"""A held release opened again, so that the stages which a gate stopped can run after all.

Readers go on seeing the held release: its manifest stays until sealing replaces it by one write, so a crash in
between changes nothing but the work folder, which is begun anew.
"""

from typing import Any

from stores.errors import UsageError
from stores.releases.release import WORK, Release, StageReport


class ReopenedRelease(Release):
    """A sealed release as its stages see it while they write: not sealed, with what was finished before."""

    @property
    def sealed(self) -> bool:
        """Never: to its stages this release is being built."""
        return False


def reopen(release: Release, before: str, **amended: dict[str, Any]) -> ReopenedRelease:
    """A held release as it was before the stage `before`; `amended` replaces metrics of earlier stages, by stage.

    Raises UsageError for a release that is not held, or that was held before that stage had anything to read.
    """
    manifest = release.manifest
    names = [report.name for report in manifest.stages]
    if manifest.status != "held" or before not in names:
        raise UsageError(
            f"release {release.release_id} cannot go on from {before}",
            where=release.storage.uri,
            expected=f"a held release that got as far as {before}",
        )
    opened = ReopenedRelease(release.workspace_uri, release.release_id, release.token)
    opened.storage.delete_tree(WORK)
    for entry in manifest.files:
        opened.storage.write(f"{WORK}/entries/{entry.path}.json", entry.model_dump_json().encode())
    for report in manifest.stages[: names.index(before)]:
        _note(opened, report.model_copy(update={"metrics": report.metrics | amended.get(report.name, {})}))
    return opened


def _note(opened: ReopenedRelease, report: StageReport) -> None:
    opened.storage.write(f"{WORK}/stages/{report.name}.json", report.model_dump_json().encode())
